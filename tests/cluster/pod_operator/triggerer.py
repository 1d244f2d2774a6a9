"""A deferred task in one process: what worker and triggerer do in turn."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from trusted_retraining.operators.pod import StagePodOperator


def defer(operator: StagePodOperator, night: dict[str, Any]) -> dict[str, Any]:
    """Run the operator as worker and triggerer do, and return the trigger's event."""
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(night)
    return dict(asyncio.run(first_event(in_triggerer(deferred.value.trigger))))


def in_triggerer(trigger: Any) -> Any:
    """Return the trigger as it arrives in the triggerer."""
    path, arguments = trigger.serialize()
    assert path == f"trusted_retraining.triggers.pod.{type(trigger).__name__}"
    arrived = type(trigger)(**json.loads(json.dumps(arguments, default=str)))
    arrived.trigger_start_time = datetime.now(UTC)
    return arrived


async def first_event(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    return None
