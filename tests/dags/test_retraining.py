"""Every pipeline file becomes one DAG with the right structure, rules and form."""

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk import DAG

from tasks.contract import STAGES
from tasks.spec import load_pipeline
from trusted_retraining.local import home

DAGS = home.ROOT / "dags"


@pytest.fixture(scope="module", autouse=True)
def database() -> None:
    home.prepare(Path(os.environ["TEST_AIRFLOW_STATE"]))


def load(file: str = "") -> BundleDagBag:
    return BundleDagBag(DAGS / file, bundle_path=DAGS, bundle_name="dags-folder")


@pytest.fixture(scope="module")
def dags(database: None) -> dict[str, DAG]:
    bag = load()
    assert bag.import_errors == {}
    return dict(bag.dags)


@pytest.fixture(scope="module")
def demo(dags: dict[str, DAG]) -> DAG:
    return dags["demo"]


def test_every_pipeline_file_is_a_dag(dags: dict[str, DAG], pipelines_folder: Path) -> None:
    names = {load_pipeline(path).name for path in pipelines_folder.glob("*.yaml")}
    assert set(dags) == names and {"demo", "demo_biased", "covid_xray", "fashion_mnist"} <= names


def test_every_stage_is_a_task(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        # without a cluster that serves, no model is published, and no data unless asked for
        own = {*STAGES, "blessing_gate", "outcome"} - {"publish", "publish_data"}
        assert set(dag.task_ids) == own


def test_the_stages_follow_each_other(demo: DAG) -> None:
    row = ["ingest", "transform", "filter", "arrange", "validate", "train", "evaluate"]
    for earlier, later in pairwise(row):
        assert demo.get_task(later).upstream_task_ids == {earlier}
    checks = {"fairness", "explain", "robustness"}
    assert demo.get_task("evaluate").downstream_task_ids == checks
    assert demo.get_task("bless").upstream_task_ids == checks
    assert demo.get_task("blessing_gate").downstream_task_ids == {"deploy", "reject"}
    assert demo.get_task("report").upstream_task_ids == {"deploy", "reject"}
    assert demo.leaves == [demo.get_task("outcome")]


def test_the_verdict_and_what_follows_come_after_a_crash_too(demo: DAG) -> None:
    rules = {task.task_id: task.trigger_rule.value for task in demo.tasks}
    for name in ("bless", "blessing_gate", "report", "outcome"):
        assert rules.pop(name) == "all_done"
    # nothing else may run on missing inputs; above all not deploy
    assert set(rules.values()) == {"all_success"}


def test_stages_that_run_the_model_share_the_gpu_pool(demo: DAG) -> None:
    pools = {task.task_id for task in demo.tasks if task.pool == "gpu"}
    assert pools == {"train", "evaluate", "explain", "robustness"}
    assert {task.pool for task in demo.tasks} == {"gpu", "default_pool"}


def test_retries_wait_longer_each_time_and_stages_time_out(dags: dict[str, DAG]) -> None:
    for name, dag in dags.items():
        pipeline = load_pipeline(DAGS / f"pipelines/{name}.yaml")
        train = dag.get_task("train")
        assert train.retries == pipeline.retries
        assert train.retry_delay == timedelta(seconds=pipeline.retry_delay_seconds)
        assert train.retry_exponential_backoff
        assert train.execution_timeout == timedelta(minutes=pipeline.stage_timeout_minutes)
        assert train.owner == pipeline.owner


def test_one_night_at_a_time_without_catching_up(dags: dict[str, DAG]) -> None:
    for name, dag in dags.items():
        pipeline = load_pipeline(DAGS / f"pipelines/{name}.yaml")
        assert dag.max_active_runs == 1 and dag.catchup is False
        assert dag.timetable.expression == pipeline.schedule
        assert str(dag.timetable.timezone) == "UTC"
        assert {"trusted-retraining", *pipeline.tags} == set(dag.tags)
        assert pipeline.description.strip() in (dag.doc_md or "")


def test_a_new_pipeline_waits_for_its_hour(demo: DAG) -> None:
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import TimeRestriction
    from pendulum import now

    timetable = coerce_to_core_timetable(demo.timetable)
    restriction = TimeRestriction(earliest=demo.start_date, latest=None, catchup=False)
    first = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    assert first is not None and first.run_after > now("UTC")


def test_the_form_is_on_every_dag_and_links_on_every_task(dags: dict[str, DAG]) -> None:
    for name, dag in dags.items():
        pipeline = load_pipeline(DAGS / f"pipelines/{name}.yaml")
        assert dag.params["train.batch_size"] == pipeline.train.batch_size
        assert dag.params["force"] is False
        for task in dag.tasks:
            assert {link.name for link in task.operator_extra_links} == {
                "MLflow run",
                "Trust report",
            }


@pytest.fixture
def folder(tmp_path: Path, pipelines_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("demo", "covid_xray"):
        shutil.copy(pipelines_folder / f"{name}.yaml", tmp_path)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__PIPELINES", str(tmp_path))
    return tmp_path


def test_a_broken_file_shows_as_an_import_error_and_takes_no_other_down(folder: Path) -> None:
    path = folder / "covid_xray.yaml"
    path.write_text(path.read_text().replace("epochs: 20", "epochs: many"))
    (folder / "wrong.yaml").write_text("name: [")
    bag = load()
    assert set(bag.dags) == {"demo"}
    # airflow takes the DAGs of a file that has an import error out of service
    assert list(bag.import_errors) == ["pipeline_errors.py"]
    message = bag.import_errors["pipeline_errors.py"]
    assert f"{path}: train.epochs: " in message and "got 'many'" in message
    assert "wrong.yaml: is not valid YAML" in message


def test_an_error_names_what_is_allowed(folder: Path) -> None:
    path = folder / "demo.yaml"
    path.write_text(path.read_text() + "\nevaluate: {bootstrap: -1}\ndeploy: {tolerance: 2}\n")
    message = load("pipeline_errors.py").import_errors["pipeline_errors.py"]
    assert "evaluate.bootstrap: Input should be greater than or equal to 0, got -1" in message
    assert "deploy.tolerance: Input should be less than 0.5, got 2" in message


def test_two_files_may_not_share_a_name(folder: Path) -> None:
    shutil.copy(folder / "demo.yaml", folder / "zz_copy.yaml")
    bag = load()
    assert set(bag.dags) == {"demo", "covid_xray"}
    assert (
        "zz_copy.yaml: name: 'demo' belongs to pipeline 'demo'"
        in bag.import_errors["pipeline_errors.py"]
    )


def test_no_heavy_library_is_imported(pipelines_folder: Path) -> None:
    heavy = "tensorflow keras pandas aif360 art lime shap mlflow sklearn skimage matplotlib kserve"
    script = f"""
import json, runpy, sys
import airflow.sdk
before = set(sys.modules)
runpy.run_path({str(DAGS / "retraining.py")!r})
runpy.run_path({str(DAGS / "pipeline_errors.py")!r})
new = {{name.split(".")[0] for name in set(sys.modules) - before}}
ours = sorted(name for name in sys.modules if name.startswith("tasks."))
print(sorted(new & set({heavy!r}.split())), json.dumps(ours))
"""
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    assert answer.startswith("[] ")
    modules = {name.split(".")[1] for name in json.loads(answer.removeprefix("[] "))}
    assert modules == {"contract", "spec"}


def test_airflow_finds_the_plugin_and_nothing_else_in_its_folder() -> None:
    script = """
from airflow.plugins_manager import get_plugin_info
import sys
print([plugin["name"] for plugin in get_plugin_info()])
print([name for name in ("reaper", "dag_builder", "params") if name in sys.modules])
"""
    lines = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert lines[-2:] == ["['trusted_retraining']", "[]"]
