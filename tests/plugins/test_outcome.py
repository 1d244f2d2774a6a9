"""The last task tells what failed, in the order of the night, and fails the run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tasks.contract import Failure, RunDirectory
from trusted_retraining.operators.outcome import OutcomeOperator
from trusted_retraining.settings import Settings


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", str(tmp_path))
    return RunDirectory(f"{tmp_path}/demo/runs/manual__1")


def end(**states: str) -> None:
    """Run the task at the end of a night with these states."""
    ti = SimpleNamespace(
        dag_id="demo", run_id="manual__1", get_task_states=lambda **_: {"manual__1": states}
    )
    context: dict[str, Any] = {"ti": ti}
    OutcomeOperator(task_id="outcome", settings=Settings.read()).execute(context)


def test_a_night_with_a_verdict_is_a_success(run: RunDirectory) -> None:
    end(train="success", deploy="skipped", reject="success", outcome="running")


def test_a_failed_stage_fails_the_run_with_its_reason(run: RunDirectory) -> None:
    run.write_failure(Failure(stage="explain", exit_code=137, reason="out of memory"))
    with pytest.raises(AirflowFailException, match=r"^failed: explain \(out of memory\)$"):
        end(explain="failed", reject="success")


def test_the_first_failure_comes_first_and_a_shared_reason_is_told_once(run: RunDirectory) -> None:
    for stage in ("bless", "ingest", "report"):
        run.write_failure(Failure(stage=stage, exit_code=78, reason="name: belongs to the DAG"))
    with pytest.raises(AirflowFailException) as caught:
        end(
            bless="failed",
            ingest="failed",
            report="failed",
            filter="upstream_failed",
            arrange="upstream_failed",
            reject="failed",
        )
    assert str(caught.value) == (
        "failed: ingest, bless, report (name: belongs to the DAG); reject (no reason known); not "
        "run because of that: filter, arrange"
    )
