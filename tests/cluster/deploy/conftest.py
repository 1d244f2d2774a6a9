"""A namespace with the rights that Airflow's accounts have there, and nothing served in it yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.deploy.sites import Site, login_as
from tests.cluster.kubectl import kubectl, own_namespace
from tests.kubernetes.kustomization import ROOT, documents
from tests.plugins.deploy.cluster import Cluster
from tests.plugins.deploy.controllers import DeploymentController, KServeController


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace in which Airflow's accounts have the rights that they have among models."""
    with own_namespace("deploy") as name:
        for account in ("airflow-worker", "airflow-triggerer"):
            kubectl("-n", name, "create", "serviceaccount", account)
        for each in documents(ROOT / "base/rbac-serving.yaml"):
            each["metadata"]["namespace"] = name
            for subject in each.get("subjects", []):
                subject["namespace"] = name
            kubectl("apply", "-f", "-", given=each)
        yield name


@pytest.fixture
def site(namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Nothing served yet, and a worker's rights."""
    stand_in = Cluster(KServeController(), DeploymentController())
    stand_in.kserve.lag = 1
    for name, value in {
        "runtime": "kubernetes",
        "storage_root": f"file://{tmp_path}/runs",
        "config_file": str(login_as("airflow-worker", namespace, tmp_path)),
        "mlflow_uri": stand_in.url,
        "serving_address": stand_in.url + "/{service}",
        "serving_namespace": namespace,
        "serving_image": "localhost/nowhere/serving:none",
        "image_pull_policy": "Never",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name.upper()}", value)
    monkeypatch.setattr("trusted_retraining.serving.probing.PAUSE_SECONDS", 0.1)
    yield Site(namespace, tmp_path, stand_in)
    stand_in.server.shutdown()
    stand_in.server.server_close()
