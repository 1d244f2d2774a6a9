"""A namespace, and operators whose pods run in it."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.spec import apply_overrides, load_pipeline
from tests.cluster.images import BASE
from tests.cluster.kubectl import kubectl
from tests.cluster.pod_operator.attempts import DEMO, SMALL, Make, pods, wait_for
from trusted_retraining.operators.pod import StagePodOperator
from trusted_retraining.settings import Settings


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    name = f"op-test-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    wait_for(lambda: "default" in kubectl("-n", name, "get", "serviceaccounts", "-o", "name"))
    try:
        yield name
        # a kubelet takes up to a minute for one that it could not start
        assert wait_for(lambda: not kubectl("-n", name, "get", "pods", "-o", "name"), 150)
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def make(tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a maker of operators whose container runs a script; no pod may be left after it."""
    options = {
        "RUNTIME": "kubernetes",
        "NAMESPACE": namespace,
        "STORAGE_ROOT": str(tmp_path / "runs"),
        "MLFLOW_URI": "http://mlflow:5000",
        "TASKS_IMAGE": BASE,
        "IMAGE_PULL_POLICY": "IfNotPresent",
        "NODE_SELECTOR": "{}",
        "TERMINATION_GRACE_SECONDS": "5",
        "POLL_SECONDS": "1",
    }
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", '{"conn_type": "kubernetes"}')

    def operator(
        script: str,
        changes: dict[str, Any] | None = None,
        kind: type[StagePodOperator] = StagePodOperator,
        **more: Any,
    ) -> Any:
        pipeline = load_pipeline(DEMO)
        return kind(
            task_id="train",
            stage="train",
            pipeline=apply_overrides(pipeline, SMALL | (changes or {})),
            settings=Settings.read(),
            cmds=["python3", "-c", script],
            **more,
        )

    yield operator
    assert not pods(namespace), "pods were left"
