"""Deployments on a real API server, with the rights that Airflow's accounts have there.

KServe's controller cannot run here: a definition of ours takes InferenceServices as they come, and
a small stand-in of the controller sets their status. The model servers that are asked stand in for
pods as well. Server-side apply, conflicts, rights and Deployments are the server's own.
"""

import asyncio
import base64
import io
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from fsspec.implementations.dirfs import DirFileSystem
from moto.server import ThreadedMotoServer
from PIL import Image

from tasks.contract import PublishedAnswer
from tests.cluster.images import SERVING, TASKS
from tests.cluster.services import CREDENTIALS, HOST
from tests.kubernetes.kustomization import ROOT, Object, documents
from tests.plugins.deploy.cluster import Cluster
from tests.plugins.deploy.controllers import DeploymentController, KServeController
from tests.plugins.deploy.nights import commit_night, pipeline_of
from tests.tasks.serving.conftest import MAKE_MODELS, offline
from trusted_retraining.hooks.kserve import KServeHook, StaleObject
from trusted_retraining.hooks.resources import DEPLOYMENT, INFERENCE_SERVICE
from trusted_retraining.operators.deploy import DeployOperator
from trusted_retraining.serving.plan import STATE
from trusted_retraining.settings import Settings

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.timeout(300),
]

NAME = "demo-night"
PATH = "/apis/serving.kserve.io/v1beta1/namespaces/{}/inferenceservices/demo-night"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "inferenceservices.serving.kserve.io"},
    "spec": {
        "group": "serving.kserve.io",
        "scope": "Namespaced",
        "names": {
            "kind": "InferenceService",
            "plural": "inferenceservices",
            "singular": "inferenceservice",
        },
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def kubectl(*words: str, given: Object | None = None) -> str:
    text = None if given is None else json.dumps(given)
    done = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def definition() -> Iterator[None]:
    """The kind InferenceService; a KServe that is there already would answer for itself."""
    name = DEFINITION["metadata"]["name"]  # type: ignore[index]
    if kubectl("get", "crd", name, "--ignore-not-found", "-o", "name"):
        pytest.skip("the cluster has a KServe of its own")
    kubectl("create", "-f", "-", given=DEFINITION)
    try:
        kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
        yield
    finally:
        kubectl("delete", "crd", name, "--timeout=60s")


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace in which Airflow's accounts have the rights that they have among models."""
    name = f"deploy-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    try:
        for account in ("airflow-worker", "airflow-triggerer"):
            kubectl("-n", name, "create", "serviceaccount", account)
        for each in documents(ROOT / "base/rbac-serving.yaml"):
            each["metadata"]["namespace"] = name
            for subject in each.get("subjects", []):
                subject["namespace"] = name
            kubectl("apply", "-f", "-", given=each)
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def login_as(account: str, namespace: str, folder: Path) -> Path:
    """Return a kubeconfig with an account's own token."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600},
    }
    token = json.loads(kubectl("create", "--raw", path, "-f", "-", given=request))
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    config["users"] = [
        {"name": each["name"], "user": {"token": token["status"]["token"]}}
        for each in config["users"]
    ]
    target = folder / f"{account}.json"
    target.write_text(json.dumps(config))
    target.chmod(0o600)
    return target


class Controller(threading.Thread):
    """Sets the status of the InferenceService, as the person who runs the tests."""

    def __init__(self, stand_in: Cluster, namespace: str, config: Path | None) -> None:
        super().__init__(daemon=True)
        self.stand_in, self.namespace = stand_in, namespace
        self.hook = KServeHook(conn_id=None, in_cluster=False, config_file=config)
        self.done = threading.Event()
        self.trouble: list[BaseException] = []

    def run(self) -> None:
        while not self.done.wait(0.1):
            try:
                self.look_once()
            except BaseException as error:
                self.trouble.append(error)
                return

    def look_once(self) -> None:
        found = self.hook.get(INFERENCE_SERVICE, self.namespace, NAME)
        if found is None:
            return
        status = self.stand_in.kserve.reconcile(found)
        self.stand_in.objects["inferenceservices", NAME] = found | {"status": status}
        if status != found.get("status"):
            self.hook.api_client.call_api(
                PATH.format(self.namespace) + "/status",
                "PATCH",
                header_params={"Content-Type": "application/merge-patch+json"},
                body={"status": status},
                auth_settings=["BearerToken"],
                _preload_content=False,
            )


class Site:
    """A namespace, the models in it, and how they are deployed."""

    def __init__(self, namespace: str, folder: Path, stand_in: Cluster) -> None:
        self.namespace, self.folder, self.stand_in = namespace, folder, stand_in

    def night(self, version: str, **facts: Any) -> Any:
        return commit_night(self.folder / "runs", self.stand_in, version, **facts)

    def operator(self, **fields: Any) -> DeployOperator:
        return DeployOperator(
            task_id="deploy",
            pipeline=pipeline_of(**{"startup_seconds": 30, **fields}),
            settings=Settings.read(),
            poll_seconds=0.1,
        )

    def deploy(
        self, version: str, *, champion: str | None = None, published: str = "", **fields: Any
    ) -> Object:
        run = self.night(version, champion=champion, published=published)
        manifest = self.operator(**fields).execute({"run_id": run.run_id, "params": {}})
        return dict(manifest)

    def get(self) -> Object:
        return dict(json.loads(kubectl("get", "--raw", PATH.format(self.namespace))))

    def state(self) -> Object:
        return dict(json.loads(self.get()["metadata"]["annotations"][STATE]))


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


@pytest.fixture
def kserve(definition: None, site: Site) -> Iterator[Site]:
    """The same, with a stand-in of KServe's controller."""
    controller = Controller(site.stand_in, site.namespace, None)
    controller.start()
    yield site
    controller.done.set()
    controller.join()
    kubectl("-n", site.namespace, "delete", "inferenceservice", "--all", "--timeout=30s")
    assert not controller.trouble, controller.trouble


@pytest.mark.parametrize("mode", ["knative", "standard"])
def test_a_second_version_follows_in_the_same_object(kserve: Site, mode: str) -> None:
    kserve.deploy("1", mode=mode)
    first = kserve.get()
    shares = []

    def look(_: int, method: str, path: str) -> None:
        if path.endswith(":predict"):
            spec = kserve.get()["spec"]
            entries = [spec["predictor"].get("canaryTrafficPercent")]
            shares.append([*entries, *(each["trafficPercent"] for each in spec.get("canary", []))])

    kserve.stand_in.before = look
    kserve.deploy("2", champion="1", mode=mode, canary_percent=25)
    assert shares[0] == ([25] if mode == "knative" else [None, 25]) and shares[-1] == [None]
    second = kserve.get()
    assert second["metadata"]["uid"] == first["metadata"]["uid"], "never deleted and created"
    managers = {each["manager"]: each["operation"] for each in second["metadata"]["managedFields"]}
    assert managers["trusted-retraining"] == "Apply"
    state = kserve.state()
    assert (state["serving"]["version"], state["previous"]["version"]) == ("2", "1")
    assert kserve.stand_in.aliases == {"champion": "2"}


def test_a_canary_that_fails_is_taken_back_and_tried_again(kserve: Site) -> None:
    kserve.deploy("1")
    kserve.night("2", champion="1")
    digest = kserve.stand_in.versions["2"]
    kserve.stand_in.behaviour[digest] = "wrong"
    with pytest.raises(AirflowFailException, match=r"differ from the offline.*version 1 serves as"):
        kserve.deploy("2", champion="1")
    assert kserve.get()["spec"]["predictor"]["canaryTrafficPercent"] == 0
    assert kserve.stand_in.aliases == {"champion": "1"}
    kserve.stand_in.behaviour.clear()
    kserve.deploy("2", champion="1")
    assert "canaryTrafficPercent" not in kserve.get()["spec"]["predictor"]
    assert kserve.stand_in.aliases == {"champion": "2"}


def test_a_version_that_never_gets_ready_is_taken_back(kserve: Site) -> None:
    kserve.deploy("1")
    kserve.night("2", champion="1")
    kserve.stand_in.kserve.never_ready.add(kserve.stand_in.versions["2"])
    with pytest.raises(AirflowException, match=r"out of memory; version 1 serves as before"):
        kserve.deploy("2", champion="1", startup_seconds=2)
    assert kserve.state()["serving"]["version"] == "1"


def test_a_stale_change_is_refused_and_an_edit_by_hand_is_told(
    kserve: Site, caplog: pytest.LogCaptureFixture
) -> None:
    kserve.deploy("1")
    seen = kserve.get()
    words = ("-n", kserve.namespace, "patch", "inferenceservice", NAME, "--type=merge")
    edit = {
        "metadata": {"labels": {"team": "radiology"}},
        "spec": {"predictor": {"maxReplicas": 99, "timeout": 7}},
    }
    kubectl(*words, "-p", json.dumps(edit))
    hook = KServeHook(conn_id=None, in_cluster=False, config_file=None)
    body = {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {"name": NAME, "resourceVersion": seen["metadata"]["resourceVersion"]},
    }
    with pytest.raises(StaleObject):
        hook.apply(INFERENCE_SERVICE, kserve.namespace, body, force=True)
    kserve.deploy("2", champion="1")
    found = kserve.get()
    assert found["spec"]["predictor"]["maxReplicas"] == 4, "ours"
    assert found["spec"]["predictor"]["timeout"] == 7, "theirs"
    assert found["metadata"]["labels"]["team"] == "radiology"
    assert "maxReplicas" in caplog.text and "taking back" in caplog.text


def test_ended_while_it_waits_the_triggerer_takes_it_back_with_its_own_rights(
    kserve: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kserve.deploy("1")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "true")
    with pytest.raises(TaskDeferred) as deferred:
        kserve.deploy("2", champion="1")
    config = login_as("airflow-triggerer", kserve.namespace, tmp_path)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__CONFIG_FILE", str(config))
    asyncio.run(deferred.value.trigger.on_kill())
    assert kserve.get()["spec"]["predictor"]["canaryTrafficPercent"] == 0
    assert kserve.state()["candidate"] is None


def test_pods_that_never_start_are_given_up_with_the_server_s_reason(site: Site) -> None:
    for _ in range(2):
        with pytest.raises(AirflowException) as caught:
            site.deploy("1", target="deployment", startup_seconds=10, cpu="20m", memory="64Mi")
        # the second attempt meets what the first has left
        assert "ErrImageNeverPull" in str(caught.value)
        assert "nothing served before, so nothing serves now" in str(caught.value)
    hook = KServeHook(conn_id=None, in_cluster=False, config_file=None)
    canary = hook.get(DEPLOYMENT, site.namespace, f"{NAME}-canary")
    assert canary is not None and canary["spec"]["replicas"] == 0
    assert hook.get(DEPLOYMENT, site.namespace, NAME) is None
    assert site.stand_in.aliases == {}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Address of an S3 API that pods reach; it takes any credentials."""
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def store(site: Site, s3: str, monkeypatch: pytest.MonkeyPatch) -> DirFileSystem:
    """A bucket of the test's own, with the keys to it in a secret."""
    login = CREDENTIALS | {"AWS_ENDPOINT_URL_S3": s3}
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "storage", "namespace": site.namespace},
        "stringData": login,
    }
    kubectl("apply", "-f", "-", given=secret)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_STORAGE_SECRET", "storage")
    name = f"models-{uuid.uuid4().hex[:6]}"
    bucket = fsspec.filesystem("s3", skip_instance_cache=True)
    bucket.mkdir(name)
    return DirFileSystem(name, bucket)


@pytest.fixture
def services() -> Iterator[str]:
    """Address of a Service as this machine reaches it, with ``{namespace}`` and ``{service}``."""
    proxy = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
    assert proxy.stdout is not None
    port = proxy.stdout.readline().rsplit(":", 1)[1].strip()
    yield f"http://127.0.0.1:{port}/api/v1/namespaces/{{namespace}}/services/{{service}}:80/proxy"
    proxy.terminate()
    proxy.wait()


def _png(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 24), colour).save(stream, "PNG")
    return stream.getvalue()


def use_image(monkeypatch: pytest.MonkeyPatch, *images: str) -> None:
    """Serve from the first of these images that a node has."""
    there = kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.images[*].names[*]}").split()
    for each in images:
        if each in there:
            monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_IMAGE", each)
            return
    pytest.skip(f"no node has {' or '.join(images)}")


def test_a_server_refuses_files_that_were_changed_after_the_last_look(
    site: Site, store: DirFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    # both hold the server's entry, which refuses before it loads anything
    use_image(monkeypatch, SERVING, TASKS)
    published = f"s3://{store.path}"
    site.night("1", published=published)
    store.put(f"{site.folder}/runs/models/demo_night/1/", "demo_night/1/", recursive=True)

    def alter(_: int, method: str, path: str) -> None:
        # the registry is asked once the files have been looked at
        store.pipe_file("demo_night/1/saved_model.pb", b"other weights")

    site.stand_in.before = alter
    facts = {"published": published, "target": "deployment", "startup_seconds": 200}
    with pytest.raises(AirflowException, match="files were changed: digest is") as caught:
        site.deploy("1", **facts, cpu="50m", memory="256Mi")
    assert "nothing serves now" in str(caught.value)
    assert site.stand_in.aliases == {}


def test_real_servers_are_exchanged_only_for_one_that_answers_rightly(
    site: Site,
    store: DirFileSystem,
    services: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_image(monkeypatch, SERVING)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_ADDRESS", services)
    made, image = site.folder / "made", _png((250, 10, 30))
    subprocess.run([sys.executable, "-c", MAKE_MODELS, made], check=True, capture_output=True)
    encoded = base64.b64encode(image).decode()

    def deploy(version: str, model: str, *, bias: float, champion: str | None) -> Object:
        known = PublishedAnswer(
            image_id="reddish",
            image_b64=encoded,
            probabilities=list(offline([image], bias=bias)[0]),
        )
        run = site.night(
            version,
            champion=champion,
            published=f"s3://{store.path}",
            saved_model=made / model / "model",
            answers=[known],
        )
        folder = f"{site.folder}/runs/models/demo_night/{version}/"
        store.put(folder, f"demo_night/{version}/", recursive=True)
        task = site.operator(
            target="deployment",
            **{"cpu": "50m", "memory": "1200Mi", "min_replicas": 1, "max_replicas": 1},
            **{"startup_seconds": 120, "observe_seconds": 2, "max_latency_ms": 20000},
        )
        return dict(task.execute({"run_id": run.run_id, "params": {}}))

    deploy("1", "1", bias=0.0, champion=None)
    with pytest.raises(AirflowFailException, match=r"differ from .*version 1 serves as before"):
        deploy("2", "2", bias=0.0, champion="1")
    manifest = deploy("3", "2", bias=0.03, champion="1")
    assert manifest["metrics"]["deploy.requests"] > 0
    address = services.format(namespace=site.namespace, service=NAME)
    answer = httpx.post(
        f"{address}/v1/models/demo_night:predict",
        json={"instances": [{"b64": encoded}]},
        timeout=30,
        trust_env=False,
    ).json()
    assert answer["model_version"] == "3"
    assert site.stand_in.aliases == {"champion": "3"}


def test_an_account_without_rights_is_told_so_in_one_line(
    definition: None, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = login_as("default", site.namespace, tmp_path)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__CONFIG_FILE", str(config))
    with pytest.raises(AirflowFailException, match=r"status 403.*nothing was changed") as caught:
        site.deploy("1")
    assert "\n" not in str(caught.value)
    token = json.loads(config.read_text())["users"][0]["user"]["token"]
    assert token not in str(caught.value)
