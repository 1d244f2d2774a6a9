"""Pods that the triggerer waits for end as those do that a worker waits for."""

import asyncio
import threading
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from tests.cluster.pod_operator.attempts import (
    ON_CLUSTER,
    SLEEP,
    Make,
    commit,
    context,
    delete_when_running,
    failure,
    pods,
    running,
)
from tests.cluster.pod_operator.triggerer import defer, first_event, in_triggerer
from tests.waiting import wait_for

pytestmark = ON_CLUSTER


def test_deferred_the_manifest_is_the_result_all_the_same(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    commit(tmp_path)
    night = context(attempt=2)
    event = defer(make("print('done')"), night)
    make("").trigger_reentry(night, event)
    assert night["ti"].pushed["return_value"]["stage"] == "train"


def test_deferred_bad_input_fails_at_once(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    night = context()
    event = defer(make("print('row 7'); raise SystemExit(65)"), night)
    with pytest.raises(AirflowFailException, match="row 7"):
        make("").trigger_reentry(night, event)
    assert failure(tmp_path).exit_code == 65


def test_deferred_a_pod_that_fits_nowhere_says_why(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SCHEDULE_TIMEOUT_SECONDS", "3")
    changes = {"resources.stages": {"train": {"gpu": 7}}}
    night = context()
    event = defer(make("", changes), night)
    with pytest.raises(AirflowException, match="unschedulable"):
        make("", changes).trigger_reentry(night, event)


def test_deferred_a_deleted_pod_is_called_so(
    make: Make, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    killer = threading.Thread(target=delete_when_running, args=[namespace])
    killer.start()
    night = context()
    event = defer(make(SLEEP), night)
    killer.join()
    with pytest.raises(AirflowException, match="was deleted before it was done"):
        make("").trigger_reentry(night, event)


def test_deferred_a_cancelled_run_takes_its_pod_with_it(
    make: Make, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    with pytest.raises(TaskDeferred) as deferred:
        make(SLEEP).execute(context())
    assert wait_for(lambda: running(namespace))

    async def cancel() -> None:
        trigger = in_triggerer(deferred.value.trigger)
        waiting = asyncio.create_task(first_event(trigger))
        await asyncio.sleep(1)
        # what the triggerer does when a person ends the task
        await trigger.on_kill()
        waiting.cancel()

    asyncio.run(cancel())
    assert not pods(namespace)


def test_deferred_a_triggerer_that_died_leaves_the_pod_to_the_next(
    make: Make, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    commit(tmp_path)
    night = context(attempt=2)
    with pytest.raises(TaskDeferred) as deferred:
        make("import time; time.sleep(6)").execute(night)

    async def die() -> None:
        waiting = asyncio.create_task(first_event(in_triggerer(deferred.value.trigger)))
        await asyncio.sleep(2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(die())
    (pod,) = pods(namespace)
    event = dict(asyncio.run(first_event(in_triggerer(deferred.value.trigger))))
    assert pod == f"pod/{event['name']}"
    make("").trigger_reentry(night, event)
    assert night["ti"].pushed["return_value"]["stage"] == "train"
