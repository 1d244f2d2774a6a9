"""Extra stages and what is published take their places in the DAG; nothing else changes."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from tasks.contract import Manifest, RunDirectory, run_uri
from tasks.spec import Pipeline
from trusted_retraining.dag_builder import build_dag
from trusted_retraining.links import PublishedLink
from trusted_retraining.local import home
from trusted_retraining.pipelines import usable_pipelines
from trusted_retraining.settings import Settings

EXTRAS = [
    # declared before the one that it comes after
    {"name": "second_opinion", "command": ["judge"], "after": ["blur", "evaluate"]},
    {
        "name": "blur",
        "description": "how sharp | the images are",
        "command": ["measure"],
        "after": ["arrange"],
        "resources": {"gpu": 1},
        "timeout_minutes": 7,
    },
    {"name": "tell_pacs", "command": ["send"], "after": ["deploy"]},
    {"name": "archive", "command": ["tar"], "after": ["tell_pacs", "blur"]},
]


@pytest.fixture(scope="module", autouse=True)
def database() -> None:
    home.prepare(Path(os.environ["TEST_AIRFLOW_STATE"]))


def pipeline(**more: Any) -> Pipeline:
    document = {"name": "films", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
    return Pipeline.model_validate({**document, **more})


@pytest.fixture(scope="module")
def dag(database: None) -> DAG:
    return build_dag(pipeline(extra_stages=EXTRAS), Settings.read())


def test_stages_before_the_verdict_are_waited_for_by_it(dag: DAG) -> None:
    assert dag.get_task("blur").upstream_task_ids == {"arrange"}
    assert dag.get_task("second_opinion").upstream_task_ids == {"blur", "evaluate"}
    checks = {"fairness", "explain", "robustness"}
    assert dag.get_task("bless").upstream_task_ids == {*checks, "blur", "second_opinion"}


def test_stages_after_the_verdict_are_waited_for_by_the_report_alone(dag: DAG) -> None:
    assert dag.get_task("tell_pacs").upstream_task_ids == {"deploy"}
    assert dag.get_task("archive").upstream_task_ids == {"tell_pacs", "blur"}
    late = {"tell_pacs", "archive"}
    assert dag.get_task("report").upstream_task_ids == {"deploy", "reject", *late}
    assert dag.get_task("blessing_gate").downstream_task_ids == {"deploy", "reject"}
    assert not late & dag.get_task("bless").get_flat_relative_ids(upstream=True)


def test_an_extra_stage_fails_closed_and_runs_on_whole_inputs_only(dag: DAG) -> None:
    for extra in EXTRAS:
        assert dag.get_task(str(extra["name"])).trigger_rule.value == "all_success"
    assert dag.get_task("bless").trigger_rule.value == "all_done"
    assert dag.leaves == [dag.get_task("outcome")]


def test_an_extra_stage_with_a_card_shares_the_pool_and_keeps_its_own_time(dag: DAG) -> None:
    assert dag.get_task("blur").pool == "gpu" and dag.get_task("tell_pacs").pool == "default_pool"
    assert dag.get_task("blur").execution_timeout.total_seconds() == 7 * 60
    assert dag.get_task("archive").execution_timeout == dag.get_task("train").execution_timeout
    assert "| `blur` | how sharp \\| the images are |" in (dag.doc_md or "")


def test_what_makes_the_dag_is_not_on_the_form(dag: DAG) -> None:
    assert not [name for name in dag.params if name.startswith(("extra_stages", "publish"))]


def test_publishing_is_off_unless_declared_and_beside_the_training(database: None) -> None:
    assert "publish_data" not in build_dag(pipeline(), Settings.read()).task_dict
    section = {"dataset": {"uri": "s3://films/data"}}
    dag = build_dag(pipeline(publish=section), Settings.read())
    published = dag.get_task("publish_data")
    assert published.upstream_task_ids == {"validate"}
    assert published.downstream_task_ids == {"report"}
    assert dag.params["publish.dataset.format"] == "parquet"


def test_what_publishes_has_a_button_that_leads_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", str(tmp_path))
    section = {
        "dataset": {"uri": "s3://films/data"},
        "report": {"uri": "s3://films/reports", "browse": "https://reports.example"},
    }
    dag = build_dag(pipeline(publish=section), Settings.read())
    with_button = [
        task.task_id
        for task in dag.tasks
        if "Published" in {link.name for link in task.operator_extra_links}
    ]
    assert sorted(with_button) == ["publish_data", "report"]
    # the scheduler and the API server know the DAG only as it is written down
    assert "Published" in str(DagSerialization.serialize_dag(dag))
    run = RunDirectory(run_uri(str(tmp_path), "films", "one"))
    addresses = {"report": "s3://films/reports/x", "report_page": "https://reports.example/x"}
    for name, told in (("report", addresses), ("publish_data", {"dataset": "s3://films/data/y"})):
        location = run.stage_uri(name)
        run.write_manifest(
            Manifest(stage=name, fingerprint="", location=location, addresses=told).sealed()
        )
    found = {}
    for name in ("report", "publish_data", "train"):
        key = SimpleNamespace(dag_id="films", run_id="one", task_id=name)
        found[name] = PublishedLink().get_link(dag.get_task(name), ti_key=key)
    assert found == {
        "report": "https://reports.example/x",
        "publish_data": "s3://films/data/y",
        "train": "",
    }


@pytest.mark.parametrize(
    ("runtime", "more", "text"),
    [
        ("local", {"extra_stages": [{"name": "x", "image": "x:1", "after": ["train"]}]}, "command"),
        (
            "kubernetes",
            {"extra_stages": [{"name": "x", "command": ["x"], "after": ["train"]}]},
            "needs an image",
        ),
        ("kubernetes", {"publish": {"report": {"uri": "/srv/reports"}}}, "folder of the pod"),
    ],
)
def test_what_the_runtime_cannot_do_is_an_import_error(
    runtime: str, more: dict[str, Any], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = pipeline(**more, runtime=runtime).to_json()
    (tmp_path / "films.yaml").write_text(yaml.safe_dump(yaml.safe_load(document)))
    for name, value in {
        "PIPELINES": str(tmp_path),
        "STORAGE_ROOT": "s3://nights/runs",
        "MLFLOW_URI": "http://mlflow:5000",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)
    usable, errors = usable_pipelines(Settings.read())
    assert not usable and len(errors) == 1 and text in errors[0] and "films" in errors[0]
