"""Deployments whose pods are real: some that never start, and model servers that are asked."""

import base64
import io
import subprocess
import sys
import uuid
from collections.abc import Iterator

import fsspec
import httpx
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from fsspec.implementations.dirfs import DirFileSystem
from PIL import Image

from tasks.contract import Publication, PublishedAnswer, RunDirectory
from tests import s3_server
from tests.cluster.deploy.sites import NAME, ON_CLUSTER, Site
from tests.cluster.images import SERVING, TASKS
from tests.cluster.kubectl import images_on_nodes, kubectl
from tests.cluster.services import CREDENTIALS, HOST
from tests.kubernetes.kustomization import Object
from tests.tasks.serving.conftest import MAKE_MODELS, offline
from trusted_retraining.hooks.kserve import KServeHook
from trusted_retraining.hooks.resources import DEPLOYMENT
from trusted_retraining.serving.publication import check_published_files

pytestmark = ON_CLUSTER


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Address of an S3 API that pods reach."""
    with s3_server.serve(HOST) as address:
        yield address


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
    there = images_on_nodes()
    for each in images:
        if each in there:
            monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_IMAGE", each)
            return
    pytest.skip(f"no node has {' or '.join(images)}")


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


def test_a_server_refuses_files_that_were_changed_after_the_last_look(
    site: Site, store: DirFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    # both hold the server's entry, which refuses before it loads anything
    use_image(monkeypatch, SERVING, TASKS)
    published = f"s3://{store.path}"
    site.night("1", published=published)
    store.put(f"{site.folder}/runs/models/demo_night/1/", "demo_night/1/", recursive=True)

    def looked(run: RunDirectory, publication: Publication) -> None:
        check_published_files(run, publication)
        store.pipe_file("demo_night/1/saved_model.pb", b"other weights")

    monkeypatch.setattr("trusted_retraining.serving.attempt.check_published_files", looked)
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
