"""Attempts of one task, and what is found of them: pods on the cluster, files in the storage."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.contract import Failure, Manifest, RunDirectory, run_uri
from tests.cluster.kubectl import kubectl
from trusted_retraining.operators.pod import StagePodOperator

ON_CLUSTER = [
    pytest.mark.cluster,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("cluster"),
]
"""Marks of every test in this folder."""
REPOSITORY = Path(__file__).parents[3]
DEMO = REPOSITORY / "dags/pipelines/demo.yaml"
SMALL = {
    "resources.model": {"gpu": 0, "cpu": "50m", "memory": "64Mi", "ephemeral_storage": "64Mi",
                        "shared_memory": "8Mi"},
}  # fmt: skip
"""What the pod asks for."""
RUN_ID = "manual__2026-07-04T02:00:00+00:00"
# the first process of a container ignores a signal that it has no handler for
SLEEP = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("at work", flush=True)
time.sleep(120)
"""
"""Script of a container that has more to do than a test waits for."""

Make = Callable[..., StagePodOperator]


class TaskInstance(SimpleNamespace):
    """What the provider asks of Airflow's task instance."""

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


class StateStore(dict[str, Any]):
    """What is kept for the attempts of a task."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def context(attempt: int = 1, store: StateStore | None = None) -> dict[str, Any]:
    ti = TaskInstance(
        dag_id="demo",
        task_id="train",
        run_id=RUN_ID,
        map_index=-1,
        try_number=attempt,
        start_date=datetime.now(UTC),
        pushed={},
    )
    return {
        "ti": ti,
        "run_id": ti.run_id,
        "params": {},
        "dag": SimpleNamespace(dag_id="demo"),
        "task_state_store": store,
    }


def pods(namespace: str) -> list[str]:
    """Return the pods that nobody has asked to be deleted."""
    found = json.loads(kubectl("-n", namespace, "get", "pods", "-o", "json"))["items"]
    return [
        f"pod/{pod['metadata']['name']}"
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
    ]


def running(namespace: str) -> list[str]:
    return kubectl(
        "-n", namespace, "get", "pods", "-o", "name", "--field-selector=status.phase=Running"
    ).split()


def delete_when_running(namespace: str) -> None:
    wait_for(lambda: running(namespace))
    kubectl("-n", namespace, "delete", *running(namespace), "--grace-period=1")


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.3)
    return False


def run_directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(run_uri(f"{tmp_path}/runs", "demo", RUN_ID))


def commit(tmp_path: Path) -> None:
    run = run_directory(tmp_path)
    run.write_manifest(
        Manifest(stage="train", fingerprint="f", digest="d", location=run.stage_uri("train"))
    )


def failure(tmp_path: Path) -> Failure:
    found = run_directory(tmp_path).read_failure("train")
    assert found is not None
    return found
