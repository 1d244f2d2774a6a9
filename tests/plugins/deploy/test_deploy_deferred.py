"""Deployments whose waiting is done by the triggerer."""

import asyncio
import json
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from tasks.contract import RunDirectory
from trusted_retraining.operators.deploy import DeployOperator
from trusted_retraining.triggers.deploy import ReadyTrigger

Object = dict[str, Any]
Night = Callable[..., RunDirectory]
Operator = Callable[..., DeployOperator]


@pytest.fixture(autouse=True)
def _deferrable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "true")


def stored(deferred: TaskDeferred) -> tuple[ReadyTrigger, str, Object]:
    """Return trigger, method and arguments as they come out of the database."""
    path, arguments = deferred.trigger.serialize()
    module, name = path.rsplit(".", 1)
    trigger = getattr(import_module(module), name)(**json.loads(json.dumps(arguments)))
    return trigger, deferred.method_name, json.loads(json.dumps(deferred.kwargs or {}))


def event_of(trigger: ReadyTrigger) -> Object:
    async def first() -> Object:
        async for event in trigger.run():
            return dict(event.payload)
        raise AssertionError("no event")

    return asyncio.run(first())


def run_through(operator: DeployOperator, run: RunDirectory, waits: list[str]) -> Object:
    """Do what worker and triggerer do in turn; note what is waited for."""
    context = {"run_id": run.run_id, "params": {}}
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        pending = deferred
    while True:
        trigger, method, arguments = stored(pending)
        waits.append(trigger.phase)
        try:
            result: Object = getattr(operator, method)(
                context, event=event_of(trigger), **arguments
            )
            return result
        except TaskDeferred as deferred:
            pending = deferred


@pytest.mark.parametrize("way", [{}, {"mode": "standard"}, {"target": "deployment"}])
def test_two_versions_follow_each_other(
    cluster: Any, night: Night, operator: Operator, way: Object
) -> None:
    waits: list[str] = []
    run_through(operator(**way), night("1"), waits)
    manifest = run_through(operator(**way, observe_seconds=1), night("2", champion="1"), waits)
    assert waits == ["canary", "serving"] * 2
    assert cluster.aliases == {"champion": "2"}
    assert manifest["metrics"]["deploy.requests"] > 0
    assert manifest["seconds"] > 1, "counted from before the first wait"


@pytest.mark.parametrize("way", [{}, {"mode": "standard"}, {"target": "deployment"}])
def test_a_version_that_never_gets_ready_is_taken_back(
    cluster: Any, night: Night, operator: Operator, way: Object
) -> None:
    run_through(operator(**way), night("1"), [])
    run = night("2", champion="1")
    for controller in (cluster.kserve, cluster.deployments):
        controller.never_ready.add(cluster.versions["2"])
    with pytest.raises(
        AirflowException, match=r"does not become ready.*version 1 serves as before"
    ):
        run_through(operator(**way, startup_seconds=1), run, [])
    assert cluster.aliases == {"champion": "1"}


def deferred_at_canary(operator: DeployOperator, run: RunDirectory) -> ReadyTrigger:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute({"run_id": run.run_id, "params": {}})
    return stored(caught.value)[0]


def test_ended_by_a_person_while_it_waits_the_canary_is_taken_back(
    cluster: Any, night: Night, operator: Operator
) -> None:
    run_through(operator(), night("1"), [])
    trigger = deferred_at_canary(operator(), night("2", champion="1"))
    predictor = ("inferenceservices", "demo-night")
    assert cluster.objects[predictor]["spec"]["predictor"]["canaryTrafficPercent"] == 10
    asyncio.run(trigger.on_kill())
    assert cluster.objects[predictor]["spec"]["predictor"]["canaryTrafficPercent"] == 0


def test_the_triggerer_outlives_what_goes_wrong_while_it_looks(
    cluster: Any, night: Night, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = deferred_at_canary(operator(), night("1"))
    looks = []

    def away(number: int, method: str, path: str) -> Any:
        looks.append(path)
        return "drop" if len(looks) < 9 else None

    cluster.before = away
    assert event_of(trigger) == {"ready": True, "reason": ""}
    # an error would end the trigger, and with it the task, which could take nothing back
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__CONFIG_FILE", "/nowhere/kubeconfig")
    trigger.deadline = time.time() + 0.1
    event = event_of(trigger)
    assert event["ready"] is False and "kube-config" in event["reason"]
