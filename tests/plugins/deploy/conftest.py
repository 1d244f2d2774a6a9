"""Nights that were blessed and published, and a cluster to deploy them to."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.contract import RunDirectory
from tests.plugins.deploy.cluster import Cluster
from tests.plugins.deploy.controllers import DeploymentController
from tests.plugins.deploy.kserve_controller import KServeController
from tests.plugins.deploy.nights import commit_night, pipeline_of
from trusted_retraining.operators.deploy import DeployOperator
from trusted_retraining.settings import Settings

Object = dict[str, Any]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster with KServe, at the address that the settings name."""
    found = Cluster(KServeController(), DeploymentController())
    found.known = {
        "autoscaling/v2": ["horizontalpodautoscalers"],
        "policy/v1": ["poddisruptionbudgets"],
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": found.url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    for name, value in {
        "runtime": "kubernetes",
        "storage_root": f"file://{tmp_path}/runs",
        "config_file": str(tmp_path / "kubeconfig"),
        "mlflow_uri": found.url,
        "serving_address": found.url + "/{service}",
        "serving_namespace": "models",
        "serving_image": "example/serving:1",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name.upper()}", value)
    # a test waits no longer than it must
    for module in ("kserve", "mlflow"):
        monkeypatch.setattr(f"trusted_retraining.hooks.{module}.FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr("trusted_retraining.serving.probing.PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr("trusted_retraining.serving.probing.PAUSE_SECONDS", 0.02)
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def night(tmp_path: Path, cluster: Any) -> Callable[..., RunDirectory]:
    """Return a function that commits verdict and publication of a version."""

    def commit(version: str, **facts: Any) -> RunDirectory:
        return commit_night(tmp_path / "runs", cluster, version, **facts)

    return commit


@pytest.fixture
def operator(cluster: Any) -> Callable[..., DeployOperator]:
    """Return a function that makes the operator, with these fields of ``deploy``."""

    def make(**fields: Any) -> DeployOperator:
        return DeployOperator(
            task_id="deploy",
            pipeline=pipeline_of(**fields),
            settings=Settings.read(),
            poll_seconds=0.02,
        )

    return make


@pytest.fixture
def deploy(operator: Callable[..., DeployOperator]) -> Callable[..., Object]:
    """Return a function that deploys a night, with these fields of ``deploy``."""

    def run_operator(run: RunDirectory, **fields: Any) -> Object:
        return operator(**fields).execute({"run_id": run.run_id, "params": {}})

    return run_operator
