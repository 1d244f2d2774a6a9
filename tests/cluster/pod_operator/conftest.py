"""A namespace, and operators whose pods run in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.spec import apply_overrides, load_pipeline
from tests.cluster.airflow_side import run_pods_in
from tests.cluster.kubectl import kubectl, own_namespace
from tests.cluster.pod_operator.attempts import DEMO, SMALL, Make, pods
from tests.waiting import wait_for
from trusted_retraining.operators.pod import StagePodOperator
from trusted_retraining.settings import Settings


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with own_namespace("op-test") as name:
        yield name
        # a kubelet takes up to a minute for one that it could not start
        assert wait_for(lambda: not kubectl("-n", name, "get", "pods", "-o", "name"), 150)


@pytest.fixture
def make(tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a maker of operators whose container runs a script; no pod may be left after it."""
    run_pods_in(namespace, tmp_path, monkeypatch)

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
