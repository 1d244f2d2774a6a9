"""One MLflow run per night, on a real SQLite store."""

import json
import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tasks import tracking
from tasks.contract import (
    Failure,
    Manifest,
    ModelIdentity,
    RuleResult,
    RunDirectory,
    StageError,
    Verdict,
    now,
)
from tasks.environment import Environment
from tasks.spec import Change, Pipeline
from tasks.tracking_records import metric_names
from tests.tasks import committed
from tests.tasks.places import environment_at

PIPELINE = Pipeline.model_validate(
    {
        "name": "night",
        "source": {"kind": "synthetic"},
        "label": {"column": "finding"},
        "transform": [{"column": "finding", "function": "replace('/','_')"}],
        "train": {"epochs": 3},
    }
)


def tracked_at(folder: Path) -> Environment:
    return environment_at(
        folder, mlflow_uri=f"sqlite:///{folder}/mlflow.db", code_revision="abc123"
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return tracked_at(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(str(tmp_path / "night" / "runs" / "it's_one"))
    directory.write_json("pipeline.json", json.loads(PIPELINE.to_json()))
    return directory


def commit(run: RunDirectory, stage: str, files: dict[str, str], **fields: Any) -> Manifest:
    mark = f"fingerprint-of-{stage}"
    return committed.commit(run, stage, files, fingerprint=mark, started_at=now(), **fields)


def logged(store: Environment, run: RunDirectory, manifest: Manifest) -> Any:
    tracking.log_stage(manifest, pipeline=PIPELINE, run=run, environment=store)
    return the_only_run(store, run)


def the_only_run(store: Environment, run: RunDirectory) -> Any:
    with tracking.mlflow_client(store) as client:
        experiment = client.get_experiment_by_name("night")
        found = [
            each
            for each in client.search_runs([experiment.experiment_id])
            if each.data.tags[tracking.RUN_URI_TAG] == run.uri
        ]
    assert len(found) == 1
    return found[0]


def artifacts(store: Environment, run_id: str, folder: str) -> set[str]:
    with tracking.mlflow_client(store) as client:
        return {Path(each.path).name for each in client.list_artifacts(run_id, folder)}


def test_a_stage_is_logged_with_its_metrics_and_the_flattened_pipeline(
    store: Environment, run: RunDirectory
) -> None:
    manifest = commit(
        run,
        "ingest",
        {"summary.json": "{}", "images/a.png": "pixels", "metadata.parquet": "rows"},
        metrics={"ingest.images": 40.0},
        rows_in=42,
        code_version="c0de",
        warnings=["2 files are truncated"],
    )
    found = logged(store, run, manifest)
    assert found.data.params["train.epochs"] == "3"
    assert json.loads(found.data.params["transform"])[0]["column"] == "finding"
    assert found.data.metrics["ingest.images"] == 40
    assert found.data.metrics["ingest.rows_in"] == 42
    assert found.data.tags["code.ingest"] == "c0de"
    assert found.data.tags["warnings.ingest"] == "2 files are truncated"
    assert found.data.tags["mlflow.source.git.commit"] == "abc123"
    assert found.info.status == "RUNNING"
    assert artifacts(store, found.info.run_id, "ingest") == {"summary.json", "manifest.json"}
    assert run.read_json("mlflow.json")["run_id"] == found.info.run_id


def test_files_are_kept_beside_the_store_wherever_the_stage_was_started(
    store: Environment, run: RunDirectory
) -> None:
    found = logged(store, run, commit(run, "ingest", {"summary.json": "{}"}))
    beside = Path(store.mlflow_uri.removeprefix("sqlite:///")).parent / "mlflow-artifacts"
    assert Path(found.info.artifact_uri.removeprefix("file://")).is_relative_to(beside)


def test_logging_a_result_twice_changes_nothing(store: Environment, run: RunDirectory) -> None:
    manifest = commit(
        run,
        "train",
        {"history.csv": "epoch,loss,seconds\n1,0.9,2\n2,0.5,2\n"},
        metrics={"train.epochs": 2.0},
    )
    logged(store, run, manifest)
    found = logged(store, run, manifest)
    with tracking.mlflow_client(store) as client:
        client.delete_tag(found.info.run_id, "logged.train")  # as if killed before the last step
        found = logged(store, run, manifest)
        history = client.get_metric_history(found.info.run_id, "train.epoch.loss")
        assert [(each.step, each.value) for each in history] == [(1, 0.9), (2, 0.5)]
        assert len(client.get_metric_history(found.info.run_id, "train.epochs")) == 1


def test_the_arranged_images_are_the_data_set_of_the_run(
    store: Environment, run: RunDirectory
) -> None:
    manifest = commit(
        run, "arrange", {"classes.json": "{}"}, rows_out=37, metrics={"arrange.train": 30.0}
    )
    found = logged(store, run, manifest)
    (entry,) = found.inputs.dataset_inputs
    assert entry.dataset.name == "night"
    assert manifest.outputs_digest.startswith(entry.dataset.digest)
    assert json.loads(entry.dataset.profile) == {"num_rows": 37, "train": 30.0}
    assert entry.tags[0].value == "training"


def test_many_metrics_and_odd_class_names_are_logged(store: Environment, run: RunDirectory) -> None:
    names = [f"evaluate.recall.Größe, (x)/../{i}" for i in range(1500)]
    manifest = commit(run, "evaluate", {"a.png": ""}, metrics=dict.fromkeys(names, 0.5))
    found = logged(store, run, manifest)
    assert sum(name.startswith("evaluate.recall.") for name in found.data.metrics) == 1500


NASTY = {
    "Chinese": ["翘头剪", "直剪", "止血钳", "组织钳"],
    "umlauts": ["Größe", "Gräße", "Gr__e"],
    "slash and underscore": ["a/b", "a_b", "a/../b", "a/_/b", "a//b", "a|b", "a?b"],
    "emoji": ["😀", "😁", "_"],
    "combining": ["caf\u00e9", "cafe\u0301", "cafe_"],
    "Devanagari": ["निमोनिया", "नमनय", "न_म_न_य_"],
    "direction marks": ["\u200fשבר", "\u200eשבר", "שבר", "_שבר"],
    "Arabic": ["سليم", "ذات الرئة"],
    "very long": ["x" * 300, "x" * 301, "x" * 250 + "y", "é" * 300, "é" * 301],
    "half a character": ["\udc80", "\udc81"],
    "ASCII": ["<40", "40+", "COVID-19 (viral)", "COVID-19 [viral]", "COVID-19 _viral_"],
}


@pytest.mark.parametrize("classes", NASTY.values(), ids=NASTY)
def test_classes_of_different_names_never_share_one_in_mlflow(classes: list[str]) -> None:
    names = metric_names(f"evaluate.recall.{name}" for name in classes)
    assert len(set(names.values())) == len(classes)


def test_mlflow_takes_every_name_and_keeps_each_value(
    store: Environment, run: RunDirectory
) -> None:
    # a manifest, which is UTF-8, holds no half of a character
    classes = [name for kind, each in NASTY.items() if "half" not in kind for name in each]
    recalls = {f"evaluate.recall.{name}": number / 64 for number, name in enumerate(classes)}
    found = logged(store, run, commit(run, "evaluate", {"a.png": ""}, metrics=recalls))
    names = metric_names(recalls)
    assert {name: found.data.metrics[names[name]] for name in recalls} == recalls


@pytest.mark.parametrize("name", ["健康", "Größe", "سليم", "a/b c: d-1.e", "COVID-19"])
def test_what_mlflow_takes_is_kept_as_it_is(name: str) -> None:
    assert metric_names([f"evaluate.recall.{name}"]) == {
        f"evaluate.recall.{name}": f"evaluate.recall.{name}"
    }


def test_trends_of_ascii_names_go_on_under_the_names_that_they_had() -> None:
    assert metric_names(["recall.Pneumonia (viral)", "recall.<40", "recall." + "x" * 300]) == {
        "recall.Pneumonia (viral)": "recall.Pneumonia _viral_",
        "recall.<40": "recall._40",
        "recall." + "x" * 300: "recall." + "x" * 243,
    }


def test_a_night_with_a_verdict_is_finished_and_tagged(
    store: Environment, run: RunDirectory
) -> None:
    verdict = Verdict(
        blessed=False,
        model=ModelIdentity(name="night", version="3", digest="d1"),
        reasons=["worse for F"],
    )
    logged(store, run, commit(run, "bless", {"verdict.json": verdict.model_dump_json()}))
    logged(store, run, commit(run, "reject", {"rejection.json": "{}"}))
    found = logged(store, run, commit(run, "report", {"report.html": "<html>"}))
    assert found.info.status == "FINISHED"
    assert found.data.tags["blessed"] == "false"
    assert found.data.tags["verdict.reasons"] == "worse for F"
    assert "report.html" in artifacts(store, found.info.run_id, "report")


def test_a_model_that_passed_changed_rules_is_tagged_so_with_what_was_changed_and_by_whom(
    store: Environment, run: RunDirectory
) -> None:
    passed = RuleResult(metric="evaluate.accuracy", bound=">= 0", passed=True, reason="")
    verdict = Verdict(
        blessed=True,
        model=ModelIdentity(name="night", version="3", digest="d1"),
        rules=[passed],
        changes=[Change(field="split.salt", file="", run="another")],
        requested_by="ann",
        deployable=False,
    )
    logged(store, run, commit(run, "bless", {"verdict.json": verdict.model_dump_json()}))
    logged(store, run, commit(run, "reject", {"rejection.json": "{}"}))
    tags = logged(store, run, commit(run, "report", {"report.html": "<html>"})).data.tags
    assert (tags["blessed"], tags["verdict"]) == ("false", "passed, not deployed")
    assert tags["requested_by"] == "ann"
    assert tags["changed"] == "split.salt: 'another', in the pipeline file ''"
    assert "not deployed (split.salt)" in tags["verdict.reasons"]


def test_a_night_whose_stage_failed_is_failed_with_the_reason(
    store: Environment, run: RunDirectory
) -> None:
    logged(store, run, commit(run, "ingest", {"summary.json": "{}"}))
    run.write_failure(Failure(stage="train", exit_code=137, reason="killed", at=now()))
    found = logged(store, run, commit(run, "report", {"report.html": "<html>"}))
    assert found.info.status == "FAILED"
    assert found.data.tags["failed.train"] == "exit 137: killed"


def test_a_stage_that_succeeds_later_loses_its_failure_and_leaves_the_run_ended(
    store: Environment, run: RunDirectory
) -> None:
    run.write_failure(Failure(stage="train", exit_code=1, reason="full disk", at=now()))
    logged(store, run, commit(run, "report", {"report.html": "<html>"}))
    found = logged(store, run, commit(run, "train", {"training.json": "{}"}))
    # cleared and run alone, with no report after it: nobody would close the run again
    assert found.info.status == "FAILED"
    assert "failed.train" not in found.data.tags


def test_a_run_that_was_left_running_is_closed_once(store: Environment, run: RunDirectory) -> None:
    logged(store, run, commit(run, "ingest", {"summary.json": "{}"}))
    run.write_failure(Failure(stage="train", exit_code=143, reason="ended on request", at=now()))
    tracking.close_run(run, store)
    with tracking.mlflow_client(store) as client:
        found = client.get_run(run.read_json("mlflow.json")["run_id"])
        ended = found.info.end_time
        assert found.info.status == "FAILED" and ended
        assert found.data.tags["failed.train"] == "exit 143: ended on request"
        tracking.close_run(run, store)
        assert client.get_run(found.info.run_id).info.end_time == ended


def test_a_run_that_was_never_logged_has_nothing_to_close(
    store: Environment, run: RunDirectory
) -> None:
    tracking.close_run(run, store)


def _find(store: Environment, uri: str, results: Any) -> None:
    results.put(
        tracking.find_or_create_run(pipeline=PIPELINE, run=RunDirectory(uri), environment=store)
    )


def test_stages_that_start_at_once_share_one_run(store: Environment, run: RunDirectory) -> None:
    # the store exists, as it does when the first parallel stages start
    logged(store, RunDirectory(f"{run.path}_before"), commit(run, "ingest", {}))
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    processes = [
        context.Process(target=_find, args=(store, run.uri, results), daemon=True) for _ in range(3)
    ]
    for process in processes:
        process.start()
    ids = {results.get(timeout=120) for _ in processes}
    for process in processes:
        process.join()
    assert ids == {the_only_run(store, run).info.run_id}


def test_without_an_address_nothing_is_logged(tmp_path: Path, run: RunDirectory) -> None:
    nowhere = environment_at(tmp_path)
    manifest = commit(run, "ingest", {})
    tracking.log_stage(manifest, pipeline=PIPELINE, run=run, environment=nowhere)
    assert run.read_json("mlflow.json") is None


def test_an_unreachable_mlflow_is_a_retryable_error_of_one_line(
    tmp_path: Path, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = environment_at(tmp_path, mlflow_uri="http://user:secret@127.0.0.1:9")
    with pytest.raises(StageError) as caught:
        tracking.log_stage(commit(run, "ingest", {}), pipeline=PIPELINE, run=run, environment=away)
    assert caught.value.exit_code == 1
    assert "127.0.0.1:9" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_damaged_store_is_a_retryable_error(tmp_path: Path, run: RunDirectory) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database, but long enough to be read as one" * 20)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(tmp_path / "mlflow.db").execute("select 1 from runs")
    with pytest.raises(StageError, match="MLflow at sqlite"):
        tracking.log_stage(
            commit(run, "ingest", {}),
            pipeline=PIPELINE,
            run=run,
            environment=tracked_at(tmp_path),
        )
