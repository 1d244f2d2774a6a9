"""A namespace with the rights that Airflow's accounts have there, and nothing served in it yet."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem

from tests import s3_server
from tests.cluster.deploy.sites import Site, login_as
from tests.cluster.kubectl import kubectl, own_namespace
from tests.cluster.services import CREDENTIALS, HOST
from tests.kubernetes.kustomization import ROOT, documents
from tests.plugins.deploy.cluster import Cluster
from tests.plugins.deploy.controllers import DeploymentController
from tests.plugins.deploy.kserve_controller import KServeController


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace in which Airflow's accounts have the rights that they have among models."""
    with own_namespace("deploy") as name:
        level = "pod-security.kubernetes.io/enforce=restricted"
        kubectl("label", "namespace", name, level)
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


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Address of an S3 API that pods reach; one, because who fetches keeps the address."""
    with s3_server.serve(HOST) as address:
        yield address


@pytest.fixture
def store(site: Site, s3: str, monkeypatch: pytest.MonkeyPatch) -> DirFileSystem:
    """A bucket of the test's own, with the keys to it in a secret and an account that has it."""
    login = CREDENTIALS | {"AWS_ENDPOINT_URL_S3": s3}
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    # KServe takes the secret of an account, and the address from its annotations
    annotations = {"s3-endpoint": s3.removeprefix("http://"), "s3-usehttps": "0"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "storage",
            "namespace": site.namespace,
            "annotations": {f"serving.kserve.io/{key}": text for key, text in annotations.items()},
        },
        "stringData": login,
    }
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "model-reader", "namespace": site.namespace},
        "secrets": [{"name": "storage"}],
    }
    for each in (secret, account):
        kubectl("apply", "-f", "-", given=each)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_STORAGE_SECRET", "storage")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_SERVICE_ACCOUNT", "model-reader")
    name = f"models-{uuid.uuid4().hex[:6]}"
    bucket = fsspec.filesystem("s3", skip_instance_cache=True)
    bucket.mkdir(name)
    return DirFileSystem(name, bucket)


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a Service as this machine reaches it, with ``{namespace}`` and ``{service}``."""
    proxy = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
    assert proxy.stdout is not None
    port = proxy.stdout.readline().rsplit(":", 1)[1].strip()
    url = f"http://127.0.0.1:{port}/api/v1/namespaces/{{namespace}}/services/{{service}}:80/proxy"
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_ADDRESS", url)
    yield url
    proxy.terminate()
    proxy.wait()
