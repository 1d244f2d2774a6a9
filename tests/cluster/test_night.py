"""A whole night as pods on a real cluster: runs in S3, MLflow over http, a Deployment that serves.

Airflow, MLflow and the model servers have the rights of their roles in S3.

The cluster in KUBECONFIG must have the images in TEST_TASKS_IMAGE and TEST_SERVING_IMAGE.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.images import SERVING, TASKS
from tests.cluster.kubectl import kubectl, own_namespace
from tests.cluster.pod_operator.nodes import GPU, PRESENT, advertise
from tests.cluster.services import BUCKET, CREDENTIALS, Services, objects, serve
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.timeout(1500),
]

REPOSITORY = Path(__file__).parents[2]
SMALL = """
resources:
  model: {gpu: 1, cpu: 100m, memory: 3Gi, ephemeral_storage: 2Gi, shared_memory: 256Mi}
  data: {gpu: 0, cpu: 50m, memory: 1Gi, ephemeral_storage: 1Gi, shared_memory: 64Mi}
deploy:
  target: deployment
  cpu: 100m
  memory: 1500Mi
  observe_seconds: 5
  startup_seconds: 240
"""
"""What a small node has room for."""
LIGHT = {
    "explain.images": "8",
    "explain.samples": "200",
    "robustness.images": "32",
    "evaluate.bootstrap": "200",
}


@dataclass(frozen=True)
class Site:
    """A namespace of ours on the cluster, and what is beside it."""

    namespace: str
    services: Services
    state: Path

    def night(self, pipeline: str, settings: Mapping[str, str]) -> tuple[int, str]:
        """Run a night from the command line; return exit code and output."""
        words = [f"--set={name}={value}" for name, value in settings.items()]
        process = subprocess.run(
            [sys.executable, "-m", "trusted_retraining.local.night", pipeline, *words],
            cwd=REPOSITORY,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process.returncode, process.stdout

    def last_run(self) -> dict[str, Any]:
        return dict(json.loads((self.state / "last-run.json").read_text()))

    def get(self, kind: str) -> list[dict[str, Any]]:
        return list(json.loads(kubectl("-n", self.namespace, "get", kind, "-o", "json"))["items"])

    def address(self, service: str) -> str:
        path = f"api/v1/namespaces/{self.namespace}/services/{service}:80/proxy"
        return f"{self.services.kubernetes}/{path}"

    def _environment(self) -> dict[str, str]:
        options = {
            "RUNTIME": "kubernetes",
            "STORAGE_ROOT": f"s3://{BUCKET}/retraining",
            "MLFLOW_URI": self.services.mlflow,
            "MLFLOW_UI": self.services.mlflow,
            "TASKS_IMAGE": TASKS,
            "SERVING_IMAGE": SERVING,
            "IMAGE_PULL_POLICY": "IfNotPresent",
            "PIPELINES": str(self.state / "pipelines"),
            "NAMESPACE": self.namespace,
            "SERVING_NAMESPACE": self.namespace,
            "STORAGE_SECRET": "storage",
            "SERVING_STORAGE_SECRET": "models",
            "SERVING_ADDRESS": self.address("{service}").replace(self.namespace, "{namespace}"),
            "POLL_SECONDS": "1",
            # the checks are lighter than their file's
            "DEPLOY_CHANGED_RULES": "True",
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        return (
            clean
            | {f"AIRFLOW__TRUSTED_RETRAINING__{name}": value for name, value in options.items()}
            | {"TRUSTED_RETRAINING_STATE": str(self.state)}
            | self.services.connections()
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A fresh namespace, with an S3 API and MLflow that its pods reach."""
    folder = tmp_path_factory.mktemp("site")
    with own_namespace("night") as namespace, serve(folder) as services:
        services.make_secret(namespace, "storage")
        services.make_secret(namespace, "models", "trusted-retraining-serving")
        pipelines = folder / "pipelines"
        pipelines.mkdir()
        demo = (REPOSITORY / "dags/pipelines/demo.yaml").read_text()
        (pipelines / "demo.yaml").write_text(demo + SMALL)
        yield Site(namespace, services, folder)


@pytest.fixture(scope="module")
def gpu_node() -> Iterator[str]:
    """Have a node say that it has a card, as a device plugin would."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    node = next(node for node in nodes if _is_ready(node))
    name = node["metadata"]["name"]
    had = node["status"]["capacity"].get(GPU)
    if had is None:
        advertise(name, "1")
    kubectl("label", "node", name, f"{PRESENT}=true", "--overwrite")
    yield name
    if had is None:
        kubectl("label", "node", name, f"{PRESENT}-")
        advertise(name, None)


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")


class Watcher(threading.Thread):
    """Notes every pod that it sees in a namespace."""

    def __init__(self, namespace: str) -> None:
        super().__init__(daemon=True)
        self.namespace = namespace
        self.pods: dict[str, dict[str, Any]] = {}
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.7):
            try:
                found = json.loads(kubectl("-n", self.namespace, "get", "pods", "-o", "json"))
            except subprocess.CalledProcessError:
                continue
            for pod in found["items"]:
                self.pods[pod["metadata"]["name"]] = pod

    def stage(self, name: str) -> list[dict[str, Any]]:
        return [
            pod
            for pod in self.pods.values()
            if pod["metadata"]["labels"].get("trusted-retraining/stage") == name
        ]


@pytest.fixture(scope="module")
def night(site: Site, gpu_node: str) -> dict[str, Any]:
    """A night of ``demo`` from nothing."""
    watcher = Watcher(site.namespace)
    watcher.start()
    started = time.monotonic()
    code, output = site.night("demo", LIGHT)
    watcher.done.set()
    watcher.join()
    assert code == 0, output[-6000:]
    last = site.last_run()
    return last | {"output": output, "pods": watcher, "seconds": time.monotonic() - started}


def test_the_night_ends_blessed_and_served(night: dict[str, Any], site: Site) -> None:
    assert night["state"] == "success" and night["blessed"], night["rules"]
    assert night["model"] == {"name": "demo", "version": "1", "alias": "champion"}
    (service,) = [
        each for each in site.get("services") if not each["metadata"]["name"].endswith("-canary")
    ]
    address = f"{site.address(service['metadata']['name'])}/v1/models/demo"
    answer = httpx.get(address, timeout=30, trust_env=False)
    assert answer.json()["ready"] in (True, "True")


def names_of(pods: list[dict[str, Any]]) -> set[str]:
    """Return the names of pods."""
    return {pod["metadata"]["name"] for pod in pods}


def test_two_servers_of_the_image_serve_what_was_judged(night: dict[str, Any], site: Site) -> None:
    def serving() -> list[dict[str, Any]]:
        return [
            pod
            for pod in site.get("pods")
            if "trusted-retraining/stage" not in pod["metadata"]["labels"]
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def all_ready() -> bool:
        return all(s["ready"] for pod in serving() for s in pod["status"]["containerStatuses"])

    pods = serving()
    assert len(pods) == 2
    assert all(pod["spec"]["containers"][0]["image"] == SERVING for pod in pods)
    # one that answers a probe late on a busy node is not ready for some seconds
    assert wait_for(all_ready, pause=1), [pod["status"] for pod in serving()]
    assert names_of(serving()) == names_of(pods)


def test_stages_were_pods_placed_on_the_card_s_node(night: dict[str, Any], gpu_node: str) -> None:
    watcher = night["pods"]
    for stage in ("ingest", "train", "evaluate", "fairness", "explain", "robustness", "bless"):
        (pod,) = watcher.stage(stage)
        assert pod["spec"]["nodeName"] == gpu_node
        container = pod["spec"]["containers"][0]
        assert container["image"] == TASKS
        cards = container["resources"].get("limits", {}).get("nvidia.com/gpu")
        runs_the_model = stage in ("train", "evaluate", "explain", "robustness")
        assert cards == ("1" if runs_the_model else None)
        assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in json.dumps(pod)


def test_no_pod_of_a_stage_is_left(night: dict[str, Any], site: Site) -> None:
    def left() -> list[str]:
        return [
            pod["metadata"]["name"]
            for pod in site.get("pods")
            if "trusted-retraining/stage" in pod["metadata"]["labels"]
        ]

    assert wait_for(lambda: not left(), pause=1), left()


def test_runs_are_few_objects_and_the_report_is_one_of_them(
    night: dict[str, Any], site: Site
) -> None:
    keys = objects(site.services.s3, "retraining/demo/runs/")
    assert any(key.endswith("/report/report.html") for key in keys)
    assert any(key.endswith("/deploy/deployment.json") for key in keys)
    assert len(keys) < 80, keys


def test_the_next_night_reuses_what_has_not_changed(night: dict[str, Any], site: Site) -> None:
    code, output = site.night("demo", LIGHT)
    last = site.last_run()
    assert code == 0 and last["blessed"], output[-6000:]
    for stage in ("ingest", "train", "evaluate", "explain", "robustness"):
        assert last["stages"][stage]["reused"], stage
    assert last["model"]["version"] == "1"


def test_a_bad_field_fails_the_night_with_its_reason(site: Site) -> None:
    settings = LIGHT | {"validate.min_test_per_class": "5000"}
    code, output = site.night("demo", settings)
    assert code == 1
    assert "validate" in output and "Traceback" not in output
