"""A deployment to a cluster rests on what tasks have handed on, at each of its parts."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from tasks.contract import RunDirectory
from tests.plugins.deploy.kserve_service import served
from trusted_retraining.operators.deploy import DeployOperator

Operator = Callable[..., DeployOperator]
STAGES = ("train", "bless", "publish")


def context_of(run: RunDirectory) -> dict[str, Any]:
    """Return the context of a task whose forerunners handed on what stands in the run now."""
    manifests = {stage: run.read_manifest(stage) for stage in STAGES}
    handed = {stage: found.model_dump(mode="json") for stage, found in manifests.items() if found}
    ti = SimpleNamespace(
        dag_id="demo_night",
        run_id=run.run_id,
        try_number=1,
        get_task_states=lambda **_: {run.run_id: dict.fromkeys(handed, "success")},
        xcom_pull=lambda task_ids: handed.get(task_ids),
    )
    return {"run_id": run.run_id, "params": {}, "ti": ti}


def replace(run: RunDirectory, stage: str) -> None:
    manifest = run.read_manifest(stage)
    assert manifest is not None
    run.write_manifest(manifest.model_copy(update={"warnings": ["another result"]}).sealed())


@pytest.mark.parametrize("stage", STAGES)
def test_what_was_replaced_after_the_gate_is_not_deployed(
    cluster: Any, night: Callable[..., RunDirectory], operator: Operator, stage: str
) -> None:
    run = night("1")
    context = context_of(run)
    replace(run, stage)
    with pytest.raises(AirflowFailException, match=rf"result of {stage} is not what its task"):
        operator().execute(context)
    assert cluster.objects == {} and cluster.aliases == {}


def test_what_is_replaced_while_a_canary_is_waited_for_is_taken_back(
    cluster: Any,
    night: Callable[..., RunDirectory],
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = night("1")
    assert operator().execute(context_of(first))["stage"] == "deploy"
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "true")
    run = night("2", champion="1")
    context, deploy = context_of(run), operator()
    with pytest.raises(TaskDeferred) as waiting:
        deploy.execute(context)
    replace(run, "publish")
    arguments = waiting.value.kwargs or {}
    with pytest.raises(AirflowFailException, match=r"result of publish is not.*version 1 serves"):
        deploy.resume(context, {"ready": True, "reason": ""}, **arguments)
    assert served(cluster) == {"1"} and cluster.aliases == {"champion": "1"}
