"""Attempts of one task, and what is found of them: pods on the cluster, files in the storage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.contract import Failure, Manifest, RunDirectory, run_uri
from tests.cluster.airflow_side import RUN_ID, task_context
from tests.cluster.kubectl import kubectl
from tests.waiting import wait_for
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
# the first process of a container ignores a signal that it has no handler for
SLEEP = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("at work", flush=True)
time.sleep(120)
"""
"""Script of a container that has more to do than a test waits for."""

Make = Callable[..., StagePodOperator]


class StateStore(dict[str, Any]):
    """What is kept for the attempts of a task."""

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self[key] = value


def context(attempt: int = 1, store: StateStore | None = None) -> dict[str, Any]:
    return task_context("demo", "train", attempt=attempt, store=store)


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


def run_directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(run_uri(f"{tmp_path}/runs", "demo", RUN_ID))


def commit(tmp_path: Path) -> None:
    """Commit what no pod of these tests does; before a first attempt it would be withdrawn."""
    run = run_directory(tmp_path)
    run.write_manifest(
        Manifest(stage="train", fingerprint="f", location=run.stage_uri("train")).sealed()
    )


def failure(tmp_path: Path) -> Failure:
    found = run_directory(tmp_path).read_failure("train")
    assert found is not None
    return found
