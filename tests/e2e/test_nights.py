"""Whole nights, as ``make demo`` and ``make retrain`` run them."""

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
MODEL_WORK = ("train", "evaluate", "fairness", "explain", "robustness")


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
    first_night: Mapping[str, Any], machine: Any, tmp_path: Path
) -> None:
    log = tmp_path / "night.log"
    night = machine.start("trusted_retraining.local.night", "demo", "--force", log=log)
    killed = _kill_stage(night.pid, "train", log)
    assert night.wait(timeout=600) == 0, log.read_text()[-3000:]
    last = machine.last_run()
    assert killed and "signal 9" in log.read_text()
    assert last["blessed"] and last["stages"]["train"]["exit_code"] == 0
    # same data, same seed: the same model, so nothing new is registered
    assert last["metrics"]["evaluate.accuracy"] == first_night["metrics"]["evaluate.accuracy"]
    assert len(machine.mlflow_runs(last["run_id"])) == 1


def test_demo_biased_ends_rejected_with_rule_and_group(machine: Any) -> None:
    code, output = machine.night("demo_biased")
    last = machine.last_run()
    assert code == 0, output[-3000:]
    assert last["state"] == "success" and not last["blessed"]
    failed = {rule["metric"]: rule["reason"] for rule in last["rules"] if not rule["passed"]}
    fairness = [reason for metric, reason in failed.items() if metric.startswith("fairness.sex")]
    assert fairness and "F" in fairness[0]
    assert last["stages"]["reject"]["exit_code"] == 0 and "deploy" not in {
        name for name, stage in last["stages"].items() if stage["exit_code"] == 0
    }


def test_bad_input_fails_the_night_at_once_and_keeps_the_champion(
    first_night: Mapping[str, Any], machine: Any, tmp_path: Path
) -> None:
    started = time.monotonic()
    settings = json.dumps({"kind": "csv_images", "uri": str(tmp_path / "nowhere")})
    code, output = machine.night("demo", "--set", f"source={settings}")
    last = machine.last_run()
    assert code == 1 and last["state"] == "failed" and not last["blessed"], output[-3000:]
    assert 64 <= last["stages"]["ingest"]["exit_code"] <= 78
    assert "nowhere" in output and output.count("the same by hand") == 1
    pointer = machine.state / "served"
    assert any(pointer.iterdir()) and time.monotonic() - started < 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demoo"], "demoo: no such pipeline in"),
        (["demo", "--set", "train.epoch=3"], "train.epoch: no such field"),
        (["demo", "--set", "train.epochs=0"], "train.epochs: Input should be greater"),
        (["demo", "--settings", "train.epochs"], "'train.epochs' is not field=value"),
    ],
)
def test_a_wrong_argument_is_one_line_before_anything_runs(
    machine: Any, arguments: list[str], message: str
) -> None:
    code, output = machine.night(*arguments)
    assert code == 78
    assert message in output.strip().splitlines()[-1]


def _kill_stage(night: int, stage: str, log: Path) -> bool:
    """Kill a stage's process, once it is in the midst of its work."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if "epoch 2/" in log.read_text():
            break
        time.sleep(0.1)
    for process in psutil.Process(night).children(recursive=True):
        words = process.cmdline()
        if words[1:4] == ["-m", "tasks", stage]:
            os.kill(process.pid, signal.SIGKILL)
            return True
    return False
