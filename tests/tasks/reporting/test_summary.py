"""The run summary has one fixed shape, for whoever reads ``last-run.json``."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.cli import main
from tasks.contract import RunDirectory
from tasks.environment import Environment
from tasks.reporting.summary import read_summary
from tasks.runner import run_stage
from tasks.stages import load_stage


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return replace(Environment.read(), mlflow_uri="", state_dir=tmp_path / "state")


def test_the_summary_of_a_blessed_night(night, run: RunDirectory):
    summary = read_summary(night())
    assert set(summary) == {
        *("pipeline", "run_id", "state", "blessed", "stages", "metrics", "rules"),
        *("model", "report", "mlflow_run_id", "verdict", "requested_by", "changes"),
    }
    assert summary["pipeline"] == "demo"
    assert summary["run_id"] == "manual__2026-01-31"
    assert (summary["state"], summary["blessed"]) == ("success", True)
    assert summary["stages"]["train"] == {"seconds": 1.5, "reused": False, "exit_code": 0}
    assert summary["stages"]["ingest"]["reused"] is True
    assert summary["metrics"]["evaluate.balanced_accuracy"] == 0.874
    assert summary["rules"][0] == {
        "metric": "evaluate.balanced_accuracy",
        "value": 0.874,
        "low": 0.812,
        "high": 0.926,
        "bound": ">= 0.7",
        "passed": True,
        "reason": "0.874 is at least 0.7",
    }
    assert summary["model"] == {"name": "demo", "version": "7", "alias": "champion"}
    assert summary["report"] == f"{run.path}/report/report.html"
    assert Path(summary["report"]).is_file()
    assert summary["mlflow_run_id"] == "0123456789abcdef"


def test_a_refused_model_stays_challenger_and_the_night_succeeded(night):
    summary = read_summary(night(blessed=False))
    assert (summary["state"], summary["blessed"]) == ("success", False)
    assert summary["model"]["alias"] == "challenger"
    assert "deploy" not in summary["stages"]


@pytest.mark.parametrize("stage", ["fairness", "bless", "reject", "report"])
def test_a_night_with_a_crashed_stage_failed(night, stage):
    summary = read_summary(night(blessed=False, failed=(stage,)))
    assert summary["state"] == "failed"
    assert summary["stages"][stage] == {"seconds": 9.0, "reused": False, "exit_code": 137}


def test_a_run_that_never_began_is_summarised_too(run: RunDirectory):
    summary = read_summary(run)
    assert (summary["pipeline"], summary["state"], summary["blessed"]) == ("demo", "failed", False)
    assert summary["stages"] == {} and summary["rules"] == []
    assert summary["report"] is None and summary["mlflow_run_id"] is None
    assert summary["model"] == {"name": "demo", "version": None, "alias": None}


def test_a_night_is_kept_as_the_last_run_wherever_it_is(night, environment, monkeypatch):
    run = night()
    monkeypatch.setenv("TRUSTED_RETRAINING_STATE", str(environment.state_dir))
    assert main(["summary", "--run-uri", run.uri]) == 0
    last = json.loads((environment.state_dir / "last-run.json").read_text())
    assert last == run.read_json("summary.json") == read_summary(run)
    elsewhere = RunDirectory("memory://bucket/demo/runs/one")
    assert main(["summary", "--run-uri", elsewhere.uri]) == 0
    last = json.loads((environment.state_dir / "last-run.json").read_text())
    assert last["run_id"] == elsewhere.read_json("summary.json")["run_id"] == "one"


def test_the_report_of_a_run_in_an_object_store_leaves_this_machine_alone(pipeline, environment):
    run = RunDirectory("memory://bucket/demo/runs/two")
    run_stage(load_stage("report"), pipeline=pipeline, run=run, environment=environment)
    assert run.read_json("summary.json")["run_id"] == "two"
    assert not (environment.state_dir / "last-run.json").exists()


def test_the_report_stage_leaves_page_and_summary_that_knows_of_the_page(
    night, pipeline, environment
):
    run = night()
    run.retract("report")
    run_stage(load_stage("report"), pipeline=pipeline, run=run, environment=environment)
    summary = json.loads((environment.state_dir / "last-run.json").read_text())
    assert summary["state"] == "success"
    assert summary["stages"]["report"]["seconds"] > 0
    assert "<h1>demo</h1>" in Path(summary["report"]).read_text()
