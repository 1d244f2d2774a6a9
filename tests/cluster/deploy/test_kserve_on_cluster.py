"""InferenceServices on a real API server.

KServe's controller cannot run here: a definition of ours takes InferenceServices as they come, and
a small stand-in of the controller sets their status. The model servers that are asked stand in for
pods as well. Server-side apply, conflicts and rights are the server's own.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from tests.cluster.deploy.kserve import DEFINITION, Controller
from tests.cluster.deploy.sites import NAME, ON_CLUSTER, Site, login_as
from tests.cluster.kubectl import kubectl
from trusted_retraining.hooks.kserve import KServeHook, StaleObject
from trusted_retraining.hooks.resources import INFERENCE_SERVICE

pytestmark = ON_CLUSTER


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


@pytest.fixture
def kserve(definition: None, site: Site) -> Iterator[Site]:
    """Nothing served yet, a worker's rights, and a stand-in of KServe's controller."""
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
