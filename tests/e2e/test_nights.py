"""Whole nights, as ``make demo`` and ``make retrain`` run them."""

import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
MODEL_WORK = ("train", "evaluate", "fairness", "explain", "robustness")


def is_running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_demo_ends_blessed_and_served(first_night: Mapping[str, Any], machine: Any) -> None:
    assert first_night["state"] == "success" and first_night["blessed"]
    assert first_night["model"] == {"name": "demo", "version": "1", "alias": "champion"}
    assert all(rule["passed"] for rule in first_night["rules"])
    assert all(stage["exit_code"] == 0 for stage in first_night["stages"].values())
    assert Path(first_night["report"].removeprefix("file://")).is_file()
    assert len(machine.mlflow_runs(first_night["run_id"])) == 1
    # a newcomer sees the epochs, the table and the verdict, and none of Airflow's own chatter
    output = first_night["output"]
    assert "epoch 1/" in output and "BLESSED" in output and "Traceback" not in output
    assert not any(
        line.startswith(("Branch", "Following", "Skipping")) for line in output.split("\n")
    )


def test_a_night_without_new_data_does_no_model_work(
    first_night: Mapping[str, Any], machine: Any
) -> None:
    code, output = machine.night("demo")
    last = machine.last_run()
    assert code == 0 and last["blessed"], output[-3000:]
    assert {name: last["stages"][name]["reused"] for name in MODEL_WORK} == dict.fromkeys(
        MODEL_WORK, True
    )
    assert last["model"]["version"] == first_night["model"]["version"]


def test_a_killed_stage_is_run_again_and_changes_nothing(
    first_night: Mapping[str, Any], killed_night: Mapping[str, Any], machine: Any
) -> None:
    assert "train: ended by signal 9" in killed_night["output"]
    assert killed_night["blessed"] and killed_night["stages"]["train"]["exit_code"] == 0
    # same data, same seed: the same answers
    for metric in ("evaluate.accuracy", "evaluate.least_recall", "train.accuracy_inference"):
        assert killed_night["metrics"][metric] == first_night["metrics"][metric]
    assert len(machine.mlflow_runs(killed_night["run_id"])) == 1


def test_a_killed_training_ends_with_the_very_model_that_serves(
    first_night: Mapping[str, Any], killed_night: Mapping[str, Any], machine: Any
) -> None:
    # taken up again it gives the same digest, so nothing is registered or rolled out anew
    assert killed_night["model"]["version"] == first_night["model"]["version"]
    assert "is serving already" in killed_night["output"]
    pointer = json.loads((machine.state / "served/demo/champion.json").read_text())
    assert pointer["version"] == killed_night["model"]["version"]
    folders = [each for each in (machine.state / "served/demo").glob("[0-9]*") if each.is_dir()]
    assert [each.name.split("-")[0] for each in folders] == [pointer["version"]]


def test_demo_biased_ends_rejected_with_rule_and_group(machine: Any) -> None:
    code, output = machine.night("demo_biased", *machine.light_checks)
    last = machine.last_run()
    assert code == 0, output[-3000:]
    assert last["state"] == "success" and not last["blessed"]
    failed = {rule["metric"]: rule["reason"] for rule in last["rules"] if not rule["passed"]}
    fairness = [reason for metric, reason in failed.items() if metric.startswith("fairness.sex")]
    assert fairness and "F" in fairness[0]
    assert last["stages"]["reject"]["exit_code"] == 0 and "deploy" not in {
        name for name, stage in last["stages"].items() if stage["exit_code"] == 0
    }


@pytest.fixture(scope="module")
def interrupted_night(
    machine: Any, first_night: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Any]:
    """What became of a night that was interrupted while it trained."""
    log = tmp_path_factory.mktemp("interrupted") / "night.log"
    settings = ("--set", "source.rows=240", "--set", "train.epochs=500")
    night = machine.start("trusted_retraining.local.night", "demo", *settings, log=log)
    guard = psutil.Process(night.pid)
    machine.stage_of(guard, "train", lambda _: "epoch 1/" in log.read_text())
    family = guard.children(recursive=True)
    night.send_signal(signal.SIGINT)
    return {"code": night.wait(timeout=30), "output": log.read_text(), "family": family}


@pytest.fixture(scope="module")
def night_without_source(
    machine: Any, interrupted_night: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Any]:
    """What became of the next night, whose source is not there."""
    absent = tmp_path_factory.mktemp("source") / "nowhere"
    source = json.dumps({"kind": "csv_images", "uri": str(absent)})
    started = time.monotonic()
    code, output = machine.night("demo", "--set", f"source={source}")
    seconds = time.monotonic() - started
    return machine.last_run() | {"code": code, "output": output, "took": seconds}


def test_an_interrupted_night_ends_at_once_with_all_it_started(
    interrupted_night: Mapping[str, Any],
) -> None:
    assert interrupted_night["code"] == 130
    assert len(interrupted_night["family"]) >= 3
    assert not any(map(is_running, interrupted_night["family"]))
    output = interrupted_night["output"]
    last = output.splitlines()[-1]
    assert last.startswith("demo: interrupted; everything it had started has ended")
    assert "Traceback" not in output


def test_an_interrupted_night_bars_no_later_one(
    night_without_source: Mapping[str, Any], machine: Any
) -> None:
    assert "giving up the night that was interrupted" in night_without_source["output"]
    # a run that lasts for ever would hold the pipeline's one active run and the slot of the GPU
    unfinished = "SELECT run_id FROM dag_run WHERE state NOT IN ('success', 'failed')"
    assert machine.airflow_rows(unfinished) == []
    running = "SELECT task_id FROM task_instance WHERE state IN ('running', 'queued', 'scheduled')"
    assert machine.airflow_rows(running) == []


def test_bad_input_fails_the_night_at_once_and_keeps_the_champion(
    night_without_source: Mapping[str, Any], machine: Any
) -> None:
    night = night_without_source
    assert night["code"] == 1 and night["state"] == "failed" and not night["blessed"]
    assert 64 <= night["stages"]["ingest"]["exit_code"] <= 78
    assert night["output"].count("the same by hand") == 1
    last = night["output"].splitlines()[-1]
    assert last.startswith("demo: the night failed: ingest: ") and "nowhere" in last
    assert (machine.state / "served/demo/champion.json").is_file() and night["took"] < 300


def test_a_wrong_argument_is_one_line_before_anything_runs(machine: Any) -> None:
    code, output = machine.night("demo", "--settings", "train.epoch=3")
    assert code == 78
    lines = [line for line in output.splitlines() if not line.startswith("Airflow database")]
    assert len(lines) == 1 and lines[0].startswith("train.epoch: no such field; there is ")
