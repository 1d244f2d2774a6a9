"""The gate follows a committed verdict and refuses whatever it cannot read."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from tasks.contract import ModelIdentity, RuleResult, RunDirectory, Verdict
from tasks.spec import Change
from tests.tasks.committed import commit
from trusted_retraining.operators.gate import BlessingGate
from trusted_retraining.settings import Settings
from trusted_retraining.storage import run_directory

PASSED = RuleResult(metric="evaluate.accuracy", value=0.9, bound=">= 0.8", passed=True, reason="")
FAILED = PASSED.model_copy(update={"passed": False, "reason": "0.7 is under 0.8"})
CONTEXT: dict[str, Any] = {"dag": SimpleNamespace(dag_id="demo"), "run_id": "manual__1"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", str(tmp_path))
    return RunDirectory(f"{tmp_path}/demo/runs/manual__1")


def commit_verdict(run: RunDirectory, text: str) -> Path:
    commit(run, "bless", {"verdict.json": text})
    return Path(run.path) / "bless/verdict.json"


def choice(handed: dict[str, Any] | None = None, /, **states: str | None) -> str:
    """Return what the gate chooses, after tasks in these states that handed on these manifests.

    Left out, every stage with a manifest has succeeded and handed it on.
    """
    settings = Settings.read()
    if handed is None:
        handed = committed_in(settings)
    states = dict.fromkeys(handed, "success") | {"bless": "success"} | states
    with DAG("demo"):
        gate = BlessingGate(task_id="blessing_gate", settings=settings)
        EmptyOperator(task_id="bless") >> gate
    context = CONTEXT | {
        "ti": SimpleNamespace(
            dag_id="demo",
            run_id="manual__1",
            get_task_states=lambda **_: {"manual__1": states},
            xcom_pull=lambda task_ids: handed.get(task_ids),
        )
    }
    return gate.choose_branch(context)


def committed_in(settings: Settings) -> dict[str, Any]:
    """Return the manifests that lie in the run's folder, by stage."""
    try:
        run = run_directory(settings, "demo", "manual__1")
        found = {name: run.read_manifest(name) for name in ("evaluate", "bless")}
    except Exception:
        return {}
    return {name: each.model_dump(mode="json") for name, each in found.items() if each}


def verdict(**changes: Any) -> str:
    model = ModelIdentity(name="demo")
    return Verdict(blessed=True, model=model, rules=[PASSED], **changes).model_dump_json()


def test_a_blessed_model_is_deployed(run: RunDirectory) -> None:
    commit_verdict(run, verdict())
    assert choice() == "deploy"


def test_a_refused_model_is_rejected(run: RunDirectory) -> None:
    refused = Verdict(
        blessed=False, model=ModelIdentity(name="demo"), rules=[FAILED], reasons=["too low"]
    )
    commit_verdict(run, refused.model_dump_json())
    assert choice() == "reject"


def test_what_the_tasks_handed_on_is_what_the_verdict_is_about(run: RunDirectory) -> None:
    judged = commit(run, "evaluate", {"a": "1"}, metrics={"evaluate.accuracy": 0.9})
    inputs = {"evaluate": judged.digest}
    given = commit(run, "bless", {"verdict.json": verdict()}, inputs=inputs)
    handed = {"bless": given.model_dump(mode="json"), "evaluate": judged.model_dump(mode="json")}
    assert choice(handed) == "deploy"


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "skipped", "running", None])
def test_a_result_that_no_task_of_this_attempt_vouches_for_is_a_refusal(
    run: RunDirectory, state: str | None
) -> None:
    # of an earlier attempt whose pod never started again, or put there by a stage before it
    judged = commit(run, "evaluate", {"a": "1"}, metrics={"evaluate.accuracy": 0.9})
    given = commit(run, "bless", {"verdict.json": verdict()}, inputs={"evaluate": judged.digest})
    handed = {"bless": given.model_dump(mode="json")}
    assert choice(handed, evaluate=state) == "reject"
    handed["evaluate"] = judged.model_dump(mode="json")
    assert choice(handed, evaluate=state) == "reject"
    assert choice(handed, evaluate="success") == "deploy"


def test_a_verdict_and_its_manifest_replaced_together_are_refused(run: RunDirectory) -> None:
    refused = Verdict(
        blessed=False, model=ModelIdentity(name="demo"), rules=[FAILED], reasons=["x"]
    )
    handed = commit(run, "bless", {"verdict.json": refused.model_dump_json()})
    commit(run, "bless", {"verdict.json": verdict()})
    assert choice() == "deploy"  # had a task handed it on
    assert choice({"bless": handed.model_dump(mode="json")}) == "reject"
    assert choice({}) == "reject"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_verdict_that_is_there_for_a_moment_is_not_followed(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refused = Verdict(
        blessed=False, model=ModelIdentity(name="demo"), rules=[FAILED], reasons=["x"]
    )
    handed = commit(run, "bless", {"verdict.json": refused.model_dump_json()})
    forged = commit(run, "bless", {"verdict.json": verdict()})
    run.write_manifest(handed)
    examine, readings = RunDirectory.examine_manifest, []

    def changing(run: RunDirectory, stage: str) -> Any:
        readings.append(stage)
        # until so many have looked
        return (forged, "") if len(readings) <= number else examine(run, stage)

    monkeypatch.setattr(RunDirectory, "examine_manifest", changing)
    assert choice({"bless": handed.model_dump(mode="json")}) == "reject"


def test_evidence_that_was_replaced_before_the_verdict_is_refused(run: RunDirectory) -> None:
    handed = commit(run, "evaluate", {"a": "1"}, metrics={"evaluate.accuracy": 0.6})
    replaced = commit(run, "evaluate", {"a": "1"}, metrics={"evaluate.accuracy": 0.98765})
    inputs = {"evaluate": replaced.digest}
    given = commit(run, "bless", {"verdict.json": verdict()}, inputs=inputs)
    passed_on = {"bless": given.model_dump(mode="json"), "evaluate": handed.model_dump(mode="json")}
    assert choice(passed_on) == "reject"


def test_a_task_that_succeeded_and_handed_nothing_on_is_a_refusal(run: RunDirectory) -> None:
    judged = commit(run, "evaluate", {"a": "1"})
    inputs = {"evaluate": judged.digest}
    given = commit(run, "bless", {"verdict.json": verdict()}, inputs=inputs)
    handed = {"bless": given.model_dump(mode="json"), "evaluate": judged.model_dump(mode="json")}
    done = {"bless": "success", "evaluate": "success"}
    assert choice(handed, **done) == "deploy"
    for name in handed:
        assert choice({**handed, name: None}, **done) == "reject"
        assert choice({**handed, name: "removed"}, **done) == "reject"


def test_a_verdict_in_a_manifest_of_the_older_format_is_a_refusal(run: RunDirectory) -> None:
    given = commit(run, "bless", {"verdict.json": verdict()})
    run.write_manifest(
        given.model_copy(update={"format": 1, "digest": given.outputs_digest, "inputs": {}})
    )
    assert run.read_verdict() is not None
    assert choice() == "reject"


def test_no_verdict_is_a_refusal(run: RunDirectory) -> None:
    assert choice() == "reject"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"blessed": true}', '{"blessed": "yes"}'])
def test_an_unreadable_verdict_is_a_refusal(run: RunDirectory, text: str) -> None:
    commit_verdict(run, text)
    assert choice() == "reject"


def test_a_verdict_changed_after_its_commit_is_a_refusal(run: RunDirectory) -> None:
    path = commit_verdict(
        run, Verdict(blessed=False, model=ModelIdentity(name="x")).model_dump_json()
    )
    path.write_text(verdict())
    assert choice() == "reject"


def test_a_verdict_without_a_commit_is_a_refusal(run: RunDirectory) -> None:
    commit_verdict(run, verdict())
    run.retract("bless")
    assert choice() == "reject"


def test_a_blessing_that_contradicts_its_own_rules_is_a_refusal(run: RunDirectory) -> None:
    contradiction = Verdict(blessed=True, model=ModelIdentity(name="demo"), rules=[FAILED])
    commit_verdict(run, contradiction.model_dump_json())
    assert choice() == "reject"


def test_a_blessing_by_no_rule_is_a_refusal(run: RunDirectory) -> None:
    commit_verdict(run, Verdict(blessed=True, model=ModelIdentity(name="demo")).model_dump_json())
    assert choice() == "reject"


def test_a_blessing_with_a_reason_against_it_is_a_refusal(run: RunDirectory) -> None:
    commit_verdict(run, verdict(reasons=["too low"]))
    assert choice() == "reject"


def test_a_model_that_passed_changed_rules_is_not_deployed(run: RunDirectory) -> None:
    changes = [Change(field="split.salt", file="", run="x")]
    commit_verdict(run, verdict(deployable=False, changes=changes))
    assert choice() == "reject"


def test_storage_out_of_reach_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", "nosuchscheme://bucket")
    assert choice() == "reject"


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "skipped", None])
def test_the_verdict_of_an_earlier_attempt_is_a_refusal(
    run: RunDirectory, state: str | None
) -> None:
    commit_verdict(run, verdict())
    assert choice(bless=state) == "reject"


def test_the_verdict_of_this_attempt_counts(run: RunDirectory) -> None:
    commit_verdict(run, verdict())
    given = run.read_manifest("bless")
    assert given is not None
    assert choice({"bless": given.model_dump(mode="json")}, bless="success") == "deploy"
