"""What an attempt finds of the one before: its pod, its end, or a node that does not answer."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tests.cluster.kubectl import kubectl
from tests.cluster.pod_operator.attempts import (
    ON_CLUSTER,
    REPOSITORY,
    SLEEP,
    Make,
    StateStore,
    commit,
    context,
    failure,
    pods,
    running,
)
from tests.cluster.pod_operator.nodes import (
    GONE,
    condition,
    dead_node_tolerations,
    patch_status,
    run_on_record_only,
)
from tests.waiting import wait_for

pytestmark = ON_CLUSTER

ON_IT = f"spec.nodeName={GONE}"
WORKER = """
from tasks.spec import apply_overrides, load_pipeline
from tests.cluster.pod_operator.attempts import DEMO, SMALL, context
from trusted_retraining.operators.pod import StagePodOperator
from trusted_retraining.settings import Settings
pipeline = apply_overrides(load_pipeline(DEMO), SMALL)
StagePodOperator(task_id="train", stage="train", pipeline=pipeline, settings=Settings.read(),
                 cmds=["python3", "-c", {script!r}]).execute(context())
"""


@pytest.fixture
def dead_node(namespace: str) -> Iterator[str]:
    """A node of which there is only the record: no kubelet ever runs a pod on it."""
    taint = {"key": "only-for", "value": namespace, "effect": "NoSchedule"}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": GONE, "labels": {"only-for": namespace}},
        "spec": {"taints": [taint]},
    }
    room = {"cpu": "1", "memory": "1Gi", "pods": "5", "ephemeral-storage": "1Gi"}
    addresses = [{"type": "Hostname", "address": GONE}]
    status = {"capacity": room, "allocatable": room, "addresses": addresses, **condition("True")}
    try:
        kubectl("apply", "-f", "-", given=node)
        patch_status(f"nodes/{GONE}", status)
        yield GONE
    finally:
        kubectl("delete", "node", GONE)


def test_a_node_that_is_lost_is_called_so(
    make: Make, namespace: str, dead_node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trusted_retraining.operators.diagnosis.PATIENCE", timedelta(seconds=5))
    monkeypatch.setattr("trusted_retraining.operators.pod_manager.PAUSE_SECONDS", 1.0)
    monkeypatch.setattr("trusted_retraining.pods._DEAD_NODE", dead_node_tolerations(2))
    toleration = {"key": "only-for", "operator": "Exists"}
    changes = {
        "resources.node_selector": {"only-for": namespace},
        "resources.tolerations": [toleration],
    }
    kubelet = threading.Thread(target=run_on_record_only, args=[namespace])
    kubelet.start()
    with pytest.raises(AirflowException, match=f"node lost: node {GONE} does not answer") as caught:
        make(SLEEP, changes).execute(context())
    kubelet.join()
    assert not isinstance(caught.value, AirflowFailException)
    assert failure(tmp_path).exit_code == 137
    # its record goes when the node's does; a node that came back would end the pod by itself
    left = kubectl("-n", namespace, "get", "pods", "-o", "name", f"--field-selector={ON_IT}")
    kubectl("-n", namespace, "delete", *left.split(), "--force", "--grace-period=0")


def test_a_task_that_is_cleared_while_it_runs_gets_a_pod_of_its_own(
    make: Make, namespace: str, tmp_path: Path
) -> None:
    # it takes its time to end: the next attempt is there before it is gone
    slow = SLEEP.replace("lambda *_: sys.exit(143)", "lambda *_: time.sleep(4) or sys.exit(143)")
    for store in (None, StateStore()):
        first = make(slow)
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(first.execute, context(store=store))
            assert wait_for(lambda: running(namespace))
            (old,) = running(namespace)
            first.on_kill()
            commit(tmp_path)
            again = context(attempt=2, store=store)
            make("print('done')").execute(again)
            assert old != f"pod/{again['ti'].pushed['pod_name']}"
            with pytest.raises(AirflowException, match="ended on request"):
                ended.result()


def test_a_worker_that_died_finds_its_pod_again(make: Make, namespace: str, tmp_path: Path) -> None:
    script = "import time; print('once', flush=True); time.sleep(15); print('done')"
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER.format(script=script)],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
    )
    assert wait_for(lambda: running(namespace))
    before = pods(namespace)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    commit(tmp_path)
    night = context(attempt=2)
    make(script).execute(night)
    assert before == [f"pod/{night['ti'].pushed['pod_name']}"]


def test_a_pod_that_failed_while_nobody_looked_is_explained(
    make: Make, namespace: str, tmp_path: Path
) -> None:
    store = StateStore()
    operator = make("print('nobody is looking'); raise SystemExit(66)")
    night = context(store=store)
    operator._context = night
    operator.name = operator._set_name(operator.name)
    operator.get_or_create_pod(operator.build_pod_request_obj(night), night)
    assert wait_for(
        lambda: "Failed" in kubectl("-n", namespace, "get", "pods", "-o", "jsonpath={..phase}")
    )
    with pytest.raises(AirflowFailException, match="nobody is looking"):
        make("").execute(context(attempt=2, store=store))
