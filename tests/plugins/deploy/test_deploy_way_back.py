"""Alias, messages and canary after failures in unlucky moments."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from tasks.contract import RunDirectory, StageError
from trusted_retraining.operators.deploy import DeployOperator

Object = dict[str, Any]
Night = Callable[..., RunDirectory]
SERVICE = ("inferenceservices", "demo-night")


def moved_without_an_answer(cluster: Any, version: str) -> Callable[[int, str, str], Any]:
    """Have MLflow move the alias to a version, but answer every such request too late."""

    def late(_: int, method: str, path: str) -> Any:
        if not path.endswith("registered-models/alias"):
            return None
        if method == "DELETE":
            cluster.aliases.clear()
            return 200, {}
        if method == "POST" and cluster.aliases.get("champion") != version:
            cluster.aliases["champion"] = version
            return 400, {"message": "lost"}
        return None

    return late


def test_an_alias_that_moved_although_the_answer_was_lost_goes_back(
    cluster: Any, night: Night, deploy: Callable[..., Object]
) -> None:
    deploy(night("1"))
    run = night("2", champion="1")
    cluster.before = moved_without_an_answer(cluster, "2")
    with pytest.raises(AirflowException, match="version 1 serves as before"):
        deploy(run)
    assert cluster.aliases == {"champion": "1"}
    assert cluster.model_tags == {"last_champion": f"1:{cluster.versions['1']}"}


@pytest.mark.parametrize("tags", [{}, {"last_champion": "none"}], ids=["earlier release", "new"])
def test_a_first_champion_that_was_taken_back_leaves_no_trace_in_the_registry(
    cluster: Any, night: Night, deploy: Callable[..., Object], tags: dict[str, str]
) -> None:
    cluster.model_tags |= tags
    cluster.before = moved_without_an_answer(cluster, "1")
    with pytest.raises(AirflowException, match="nothing serves now"):
        deploy(night("1"))
    assert cluster.aliases == {}
    assert cluster.model_tags == tags


def test_a_version_that_a_killed_attempt_noted_is_forgotten_with_the_alias(
    cluster: Any, night: Night, deploy: Callable[..., Object]
) -> None:
    deploy(night("1"))
    run = night("2", champion="1")
    cluster.model_tags["last_champion"] = f"2:{cluster.versions['2']}"
    cluster.before = moved_without_an_answer(cluster, "2")
    with pytest.raises(AirflowException, match="version 1 serves as before"):
        deploy(run)
    assert cluster.model_tags == {"last_champion": f"1:{cluster.versions['1']}"}


def test_an_alias_that_cannot_be_returned_is_told_and_worth_another_attempt(
    cluster: Any, night: Night, deploy: Callable[..., Object]
) -> None:
    deploy(night("1"))
    run = night("2", champion="1")
    late = moved_without_an_answer(cluster, "2")

    def away(number: int, method: str, path: str) -> Any:
        moved = cluster.aliases["champion"] == "2"
        return (403, {}) if moved and "mlflow" in path else late(number, method, path)

    cluster.before = away
    with pytest.raises(AirflowException, match="ROLLING BACK FAILED as well"):
        deploy(run)


def test_a_version_that_serves_is_not_reported_as_unchanged(
    cluster: Any, night: Night, deploy: Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a deployment cannot be written once the version is the champion."""

    def full(*_: Any) -> None:
        raise StageError("no room")

    run = night("1")
    monkeypatch.setattr(RunDirectory, "write_json", full)
    with pytest.raises(AirflowException, match="no room; version 1 serves and stays"):
        deploy(run)
    assert cluster.aliases == {"champion": "1"}


def test_a_store_that_takes_no_record_does_not_hide_why_it_failed(
    cluster: Any, night: Night, deploy: Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(night("1"))
    run = night("2", champion="1")
    cluster.behaviour[cluster.versions["2"]] = "wrong"

    def away(*_: Any) -> None:
        raise StageError("the store is away")

    monkeypatch.setattr(RunDirectory, "write_failure", away)
    with pytest.raises(AirflowFailException, match="differ from the offline predictions"):
        deploy(run)


def test_a_canary_is_taken_back_although_the_night_cannot_be_read_any_more(
    cluster: Any,
    night: Night,
    operator: Callable[..., DeployOperator],
    deploy: Callable[..., Object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy(night("1"))
    run = night("2", champion="1")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "true")
    task, context = operator(), {"run_id": run.run_id, "params": {}}
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context)
    arguments = json.loads(json.dumps(caught.value.kwargs))
    assert cluster.objects[SERVICE]["spec"]["predictor"]["canaryTrafficPercent"] == 10
    run.retract("publish")
    with pytest.raises(AirflowFailException, match="version 1 serves as before"):
        task.resume(context, event={"ready": True, "reason": ""}, **arguments)
    assert cluster.objects[SERVICE]["spec"]["predictor"]["canaryTrafficPercent"] == 0


def test_a_canary_that_stays_behind_is_told(
    cluster: Any,
    night: Night,
    operator: Callable[..., DeployOperator],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "true")
    run = night("1")
    task, context = operator(), {"run_id": run.run_id, "params": {}}
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context)
    run.retract("publish")
    (tmp_path / "kubeconfig").unlink()
    with pytest.raises(AirflowException, match="what was begun is still there") as failed:
        task.resume(context, event={"ready": True, "reason": ""}, **caught.value.kwargs or {})
    assert type(failed.value) is AirflowException, "another attempt is worth it"


def test_the_manifest_says_when_the_deployment_began(
    night: Night, deploy: Callable[..., Object]
) -> None:
    began = datetime.now(UTC)
    manifest = deploy(night("1"), observe_seconds=2)
    late = datetime.fromisoformat(manifest["started_at"]) - began
    assert abs(late.total_seconds()) < 1.5
