"""Deployments whose pods are real: some that never start, and model servers that are asked."""

from collections.abc import Iterator

import httpx
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from fsspec.implementations.dirfs import DirFileSystem

from tasks.contract import Publication, RunDirectory
from tests.cluster.deploy.servers import FIELDS, ROLLOUTS, Servers, use_image
from tests.cluster.deploy.sites import NAME, ON_CLUSTER, Site
from tests.cluster.images import SERVING, TASKS
from tests.cluster.kubectl import kubectl
from trusted_retraining.hooks.kserve import KServeHook
from trusted_retraining.hooks.resources import DEPLOYMENT
from trusted_retraining.serving.publication import check_published_files

pytestmark = ON_CLUSTER


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


@pytest.fixture
def servers(
    site: Site, store: DirFileSystem, services: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Servers]:
    """Nothing served yet, and real models for plain Deployments."""
    use_image(monkeypatch, SERVING)
    yield Servers(site, store, FIELDS | {"target": "deployment"})
    kinds = "deployments,services,horizontalpodautoscalers,poddisruptionbudgets"
    kubectl("-n", site.namespace, "delete", kinds, "--all", "--timeout=90s")


def test_real_servers_are_exchanged_only_for_one_that_answers_rightly(
    servers: Servers, site: Site, services: str
) -> None:
    servers.deploy("1")
    with pytest.raises(AirflowFailException, match=r"differ from .*version 1 serves as before"):
        servers.deploy("2", champion="1", bias=0.0)
    manifest = servers.deploy("4", champion="1")
    assert manifest["metrics"]["deploy.requests"] > 0
    address = services.format(namespace=site.namespace, service=NAME)
    answer = httpx.post(
        f"{address}/v1/models/demo_night:predict",
        json={"instances": [{"b64": servers.encoded}]},
        timeout=30,
        trust_env=False,
    ).json()
    assert answer["model_version"] == "4"
    assert site.stand_in.aliases == {"champion": "4"}


@pytest.mark.timeout(2400)
def test_no_request_is_refused_while_pods_are_exchanged(servers: Servers) -> None:
    servers.deploy("1")
    with servers.asked(NAME) as asked:
        for number in range(2, 2 + ROLLOUTS):
            servers.deploy(str(number), champion=str(number - 1))
    assert asked.problems == []
    assert asked.versions == {str(number) for number in range(1, 2 + ROLLOUTS)}
    assert asked.count > 100 * ROLLOUTS
