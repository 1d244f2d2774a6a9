"""The cluster has trouble while a stage runs: the run ends as it should.

On the ground only, whose processes can be ended, and while nobody else has pods on it.
"""

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tests.cluster.kubectl import kubectl
from tests.cluster.pod_operator.attempts import (
    SLEEP,
    Make,
    StateStore,
    commit,
    context,
    failure,
    pods,
    running,
)
from tests.cluster.pod_operator.nodes import dead_node_tolerations
from tests.cluster.pod_operator.triggerer import defer
from tests.cluster.pod_operator.trouble import compact, mend, others, without
from tests.ground.layout import KUBECONFIG, NODE
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.full,
    pytest.mark.timeout(480),
    pytest.mark.usefixtures("alone"),
]

WORK = """
import time
for _ in range(40):
    print("at work", flush=True)
    time.sleep(1)
"""


@pytest.fixture
def alone(cluster: None, namespace: str) -> None:
    """Skip where the trouble would be somebody else's, too."""
    if os.environ.get("KUBECONFIG") != str(KUBECONFIG):
        pytest.skip("only the ground's processes can be ended: see tests/ground/README.md")
    # namespaces of tests that have ended take a moment
    if not wait_for(lambda: not others(namespace), 30):
        pytest.skip(f"others have pods on the ground: {', '.join(others(namespace))}")


def amid(namespace: str, trouble: Callable[[], None]) -> threading.Thread:
    """Make trouble as soon as a stage runs, beside the test."""

    def wait() -> None:
        assert wait_for(lambda: running(namespace))
        trouble()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_stage_whose_node_is_drained_says_so_and_is_tried_again(
    make: Make, namespace: str, tmp_path: Path
) -> None:
    def drain() -> None:
        kubectl("drain", NODE, "--pod-selector=dag_id=demo", "--delete-emptydir-data", "--force")

    thread = amid(namespace, drain)
    try:
        with pytest.raises(AirflowException, match=f"evicted from {NODE}: its node is being") as e:
            make(SLEEP).execute(context())
        thread.join()
    finally:
        mend()
    assert not isinstance(e.value, AirflowFailException)
    assert failure(tmp_path).exit_code == 143
    commit(tmp_path)
    make("print('done')").execute(context(attempt=2))


def test_a_kubelet_that_is_restarted_is_waited_for(
    make: Make, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trusted_retraining.operators.pod_manager.PAUSE_SECONDS", 1.0)
    before: list[str] = []

    def restart() -> None:
        before.extend(pods(namespace))
        commit(tmp_path)
        with without("kubelet"):
            time.sleep(10)

    thread = amid(namespace, restart)
    night = context()
    make(WORK).execute(night)
    thread.join()
    assert before == [f"pod/{night['ti'].pushed['pod_name']}"]


def test_a_kubelet_that_stays_away_is_a_lost_node(
    make: Make, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trusted_retraining.operators.diagnosis.PATIENCE", timedelta(seconds=5))
    monkeypatch.setattr("trusted_retraining.operators.pod_manager.PAUSE_SECONDS", 1.0)
    monkeypatch.setattr("trusted_retraining.pods._DEAD_NODE", dead_node_tolerations(2))
    told = threading.Event()

    def end() -> None:
        with without("kubelet"):
            assert told.wait(240)

    thread = amid(namespace, end)
    try:
        with pytest.raises(AirflowException, match=f"node lost: node {NODE} does not answer"):
            make(SLEEP).execute(context())
    finally:
        told.set()
        thread.join()
    assert failure(tmp_path).exit_code == 137
    # a node that has come back ends what it was told to end
    assert wait_for(lambda: not kubectl("-n", namespace, "get", "pods", "-o", "name"), 90)
    commit(tmp_path)
    make("print('done')").execute(context(attempt=2))


@pytest.mark.parametrize("deferred", [False, True], ids=["worker", "triggerer"])
def test_an_api_server_that_is_restarted_costs_no_work(
    make: Make,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deferred: bool,
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", str(deferred))
    before: list[str] = []

    def restart() -> None:
        before.extend(pods(namespace))
        commit(tmp_path)
        with without("kube-apiserver"):
            # what a watch asks for afterwards, the store has forgotten
            compact()

    def attempt(night: dict[str, Any]) -> None:
        if deferred:
            event = defer(make(WORK), night)
            make("").trigger_reentry(night, event)
        else:
            make(WORK).execute(night)

    thread = amid(namespace, restart)
    store = StateStore()
    night = context(store=store)
    try:
        attempt(night)
    except AirflowException as lost:
        # it took longer than is asked again for; what the next attempt finds is the same pod
        assert "the cluster does not answer" in str(lost)
        assert not isinstance(lost, AirflowFailException)
        thread.join()
        night = context(attempt=2, store=store)
        attempt(night)
    thread.join()
    assert before == [f"pod/{night['ti'].pushed['pod_name']}"]
    assert night["ti"].pushed["return_value"]["stage"] == "train"


def test_a_store_that_is_compacted_is_not_noticed(
    make: Make, namespace: str, tmp_path: Path
) -> None:
    def forget() -> None:
        commit(tmp_path)
        compact()

    thread = amid(namespace, forget)
    make(WORK).execute(context())
    thread.join()
