"""InferenceServices of KServe's own controller and webhooks, Standard mode, real servers."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from fsspec.implementations.dirfs import DirFileSystem

from tests.cluster.deploy.servers import FIELDS, ROLLOUTS, PodWatch, Servers, use_image
from tests.cluster.deploy.sites import NAME, ON_CLUSTER, PATH, Site, login_as
from tests.cluster.images import SERVING
from tests.cluster.kubectl import kubectl
from tests.kubernetes.kustomization import Object
from tests.waiting import wait_for
from trusted_retraining import cluster_check

pytestmark = [*ON_CLUSTER, pytest.mark.timeout(900)]

CONTROLLER = ("-n", "kserve", "get", "deployment", "kserve-controller-manager", "-o", "json")
CHAMPION = f"{NAME}-champion"


@pytest.fixture
def kserve(
    site: Site, store: DirFileSystem, services: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Servers]:
    """Nothing served yet, a worker's rights, real models."""
    try:
        status = json.loads(kubectl(*CONTROLLER))["status"]
    except subprocess.CalledProcessError:
        pytest.skip("the cluster has no controller of KServe's in namespace kserve")
    if not status.get("readyReplicas"):
        pytest.skip("KServe's controller is not ready")
    use_image(monkeypatch, SERVING)
    yield Servers(site, store, FIELDS | {"target": "kserve", "mode": "standard"})
    kubectl("-n", site.namespace, "delete", "inferenceservice", "--all", "--timeout=90s")
    # the pods go some time after it, and the next test counts those that it sees
    kubectl("-n", site.namespace, "wait", "--for=delete", "pods", "--all", "--timeout=90s")


@pytest.fixture
def pods(site: Site) -> Iterator[PodWatch]:
    """All pods of the namespace, as they come and go."""
    with PodWatch(site.namespace).watching() as watch:
        yield watch


def predictor(site: Site) -> Object:
    found: Object = site.get()["spec"]["predictor"]
    return found


def serving_pods(site: Site) -> set[str]:
    """Return the pods that everybody's requests go to."""
    words = ("-n", site.namespace, "get", "endpointslices", "-o", "json")
    label = f"kubernetes.io/service-name={CHAMPION}"
    slices = json.loads(kubectl(*words, "-l", label))["items"]
    return {
        each["targetRef"]["uid"]
        for one in slices
        for each in one["endpoints"] or []
        if each["conditions"].get("serving") and not each["conditions"].get("terminating")
    }


def test_no_pod_that_serves_or_was_proven_is_replaced(
    kserve: Servers, site: Site, pods: PodWatch
) -> None:
    kserve.deploy("1")
    (first,) = pods.look()
    assert serving_pods(site) == {first}
    kserve.deploy("2", champion="1")
    assert wait_for(lambda: len(pods.look()) == 1)
    (second,) = pods.look()
    assert serving_pods(site) == {second} and list(pods.seen) == [first, second]
    # refused as a canary, then when it has every request already
    with pytest.raises(AirflowFailException, match=r"differ from .*version 2 serves as before"):
        kserve.deploy("3", champion="2", bias=0.03)
    assert serving_pods(site) == {second}

    def away(_: int, method: str, path: str) -> Any:
        moved = method == "POST" and path.endswith("registered-models/alias")
        return (400, {"message": "no"}) if moved else None

    site.stand_in.before = away
    with pytest.raises(AirflowException, match="version 2 serves as before"):
        kserve.deploy("5", champion="2")
    site.stand_in.before = None
    assert wait_for(lambda: pods.look() == [second])
    assert serving_pods(site) == {second}
    by_version = sorted(pods.seen.values())
    assert by_version == ["1", "2", "3", "5"], "one pod a version, ever"
    assert site.state()["serving"]["version"] == "2"
    assert site.stand_in.aliases == {"champion": "2"}


def test_other_settings_of_the_same_model_are_tried_and_exchanged(
    kserve: Servers, site: Site, pods: PodWatch
) -> None:
    kserve.deploy("1")
    before = predictor(site)
    kserve.deploy("1", memory="1300Mi")
    after = predictor(site)
    assert after["name"] == before["name"]
    assert after["containers"][0]["resources"]["limits"]["memory"] == "1300Mi"
    assert wait_for(lambda: len(pods.look()) == 1)
    assert serving_pods(site) == set(pods.look())
    # what served, what was tried, what serves
    assert len(pods.seen) == 3
    kserve.deploy("1", memory="1300Mi", max_replicas=3)
    assert predictor(site)["maxReplicas"] == 3 and len(pods.seen) == 3


@pytest.mark.timeout(2400)
def test_no_request_is_refused_at_any_exchange(kserve: Servers) -> None:
    kserve.deploy("1")
    with kserve.asked(CHAMPION) as asked:
        for number in range(2, 2 + ROLLOUTS):
            kserve.deploy(str(number), champion=str(number - 1))
    assert asked.problems == []
    # a connection that is kept goes on to the former version until that ends
    assert asked.versions == {str(number) for number in range(1, 2 + ROLLOUTS)}
    assert asked.count > 100 * ROLLOUTS


def test_more_than_one_cpu_is_a_matter_of_the_nodes(kserve: Servers, site: Site) -> None:
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    more = 1 + max(int(each["status"]["capacity"]["cpu"]) for each in nodes)
    with pytest.raises(AirflowException, match="Insufficient cpu") as caught:
        # longer than the tests of the pool's taint take beside this one: it would be the reason
        kserve.deploy("1", cpu=str(more), startup_seconds=45)
    assert "nothing serves now" in str(caught.value)


@pytest.fixture
def unsafe(store: DirFileSystem, site: Site) -> Iterator[str]:
    """A storage initializer without a security context, for addresses that no other takes."""
    found = json.loads(kubectl("get", "clusterstoragecontainer", "default", "-o", "json"))
    container = found["spec"]["container"]
    container.pop("securityContext", None)
    address, name = f"file://{site.folder}", f"of-{store.path}"
    spec = found["spec"] | {"container": container, "supportedUriFormats": [{"prefix": address}]}
    keys = ("apiVersion", "kind")
    body = {key: found[key] for key in keys} | {"metadata": {"name": name}, "spec": spec}
    kubectl("create", "-f", "-", given=body)
    yield address
    kubectl("delete", "clusterstoragecontainer", name)


def test_what_pod_security_refuses_is_told_before_and_at_once(
    kserve: Servers, site: Site, unsafe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--mode", "standard", "--namespace", site.namespace, "--model-uri"]
    assert cluster_check.main([*words, f"{unsafe}/1"]) == 78
    assert "securityContext" in capsys.readouterr().err
    assert cluster_check.main([*words, "s3://another/1"]) == 0
    with pytest.raises(AirflowException, match="violates PodSecurity"):
        # it would wait for longer than this test may take
        site.deploy("1", **kserve.fields | {"startup_seconds": 3000})


def test_an_edit_by_hand_is_told_and_what_is_not_ours_stays(
    kserve: Servers, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    kserve.deploy("1")
    uid = site.get()["metadata"]["uid"]
    edit = {
        "metadata": {"labels": {"team": "radiology"}},
        "spec": {"predictor": {"maxReplicas": 99, "timeout": 7}},
    }
    words = ("-n", site.namespace, "patch", "inferenceservice", NAME, "--type=merge")
    kubectl(*words, "-p", json.dumps(edit))
    kserve.deploy("2", champion="1")
    found = site.get()
    assert found["metadata"]["uid"] == uid, "never deleted and created"
    assert found["spec"]["predictor"]["maxReplicas"] == 1, "ours"
    assert found["spec"]["predictor"]["timeout"] == 7, "theirs"
    assert found["metadata"]["labels"]["team"] == "radiology"
    assert "maxReplicas" in caplog.text and "taking back" in caplog.text


def test_ended_while_it_waits_the_triggerer_takes_it_back_with_its_own_rights(
    kserve: Servers, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kserve.deploy("1")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "true")
    with pytest.raises(TaskDeferred) as deferred:
        kserve.deploy("2", champion="1")
    assert site.get()["spec"]["canary"]
    config = login_as("airflow-triggerer", site.namespace, tmp_path)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__CONFIG_FILE", str(config))
    asyncio.run(deferred.value.trigger.on_kill())
    assert "canary" not in site.get()["spec"] and site.state()["candidate"] is None


def test_an_account_without_rights_is_told_so_in_one_line(
    kserve: Servers, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = login_as("default", site.namespace, tmp_path)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__CONFIG_FILE", str(config))
    with pytest.raises(AirflowFailException, match=r"status 403.*nothing was changed") as caught:
        kserve.deploy("1")
    assert "\n" not in str(caught.value)
    token = json.loads(config.read_text())["users"][0]["user"]["token"]
    assert token not in str(caught.value)


def test_the_record_and_the_address_go_with_the_service(kserve: Servers, site: Site) -> None:
    kserve.deploy("1")
    named = ("-n", site.namespace, "get", "configmaps,services", "-o", "name")
    ours = {f"configmap/{NAME}-rollout", f"service/{CHAMPION}"}
    assert ours <= set(kubectl(*named).split())
    path = PATH.format(site.namespace)
    kubectl("delete", "--raw", path)
    assert wait_for(lambda: not ours & set(kubectl(*named).split()), 90)
