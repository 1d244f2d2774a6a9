"""Deployments to KServe: what goes into service, and what is known of it there."""

import os
import re
from typing import Any

import pytest

from tests.plugins.deploy.kserve_service import ISVC, MODES, Deploy, Night, served, state
from trusted_retraining.hooks.kserve import KServeHook


@pytest.mark.parametrize("mode", MODES)
def test_a_first_and_a_second_version_go_into_service(
    cluster: Any, night: Night, deploy: Deploy, mode: str
) -> None:
    first = deploy(night("1"), mode=mode)
    assert first["metrics"]["deploy.known_answers"] == 3
    assert served(cluster) == {"1"} and cluster.aliases == {"champion": "1"}
    run = night("2", champion="1")
    second = deploy(run, mode=mode)
    assert served(cluster) == {"2"} and cluster.aliases == {"champion": "2"}
    assert state(cluster)["previous"]["version"] == "1"
    assert not cluster.objects[ISVC]["spec"].get("canary")
    assert "canaryTrafficPercent" not in cluster.objects[ISVC]["spec"]["predictor"]
    document = run.read_json("deploy/deployment.json")
    assert document["previous"]["version"] == "1" and document["model"]["version"] == "2"
    assert run.read_manifest("deploy") is not None and second["stage"] == "deploy"
    # the canary was asked at an address of its own, before anybody else got there
    digest = cluster.versions["2"]
    alone = r"latest-demo-night-predictor" if mode == "knative" else r"demo-night-m\w{6}-predictor"
    first_asked = next(each for each in cluster.asked if each.endswith(digest))
    assert re.fullmatch(f"{alone} {digest}", first_asked)
    assert cluster.metrics == {}, "there is no MLflow run in this night"
    assert {"deployed_by"} == {each["key"] for each in cluster.tags}


def test_every_field_goes_into_the_service(
    cluster: Any, night: Night, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_SERVICE_ACCOUNT", "model-reader")
    run = night("1")
    deploy(run, min_replicas=0, max_replicas=9, gpu=1, cpu="500m", memory="3Gi")
    predictor = cluster.objects[ISVC]["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (0, 9)
    assert predictor["serviceAccountName"] == "model-reader"
    assert predictor["tolerations"][0]["key"] == "nvidia.com/gpu"
    server = predictor["containers"][0]
    assert server["resources"]["limits"] == {"cpu": "2", "memory": "3Gi", "nvidia.com/gpu": "1"}
    assert server["resources"]["requests"]["cpu"] == "500m"
    variables = {each["name"]: each["value"] for each in server["env"]}
    assert variables["STORAGE_URI"].endswith("/models/demo_night/1")
    assert variables["MODEL_DIGEST"] == cluster.versions["1"]
    assert variables["SERVER_MEMORY"] == "3Gi"
    assert variables["MAX_PIXELS"] == "25000000"


def test_the_canary_gets_its_share_and_the_rest_stays_where_it_was(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"))
    shares = []

    def look(_: int, method: str, path: str) -> None:
        spec = cluster.objects[ISVC]["spec"]["predictor"]
        if path.endswith(":predict"):
            shares.append(spec.get("canaryTrafficPercent"))

    cluster.before = look
    deploy(night("2", champion="1"), canary_percent=25, observe_seconds=1)
    assert shares[0] == 25 and shares[-1] is None and len(shares) > 5


def test_a_model_that_serves_already_costs_nothing(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    run = night("1")
    deploy(run)
    before = len(cluster.asked), cluster.objects[ISVC]["metadata"]["generation"]
    again = deploy(run)
    assert again["metrics"]["deploy.already_serving"] == 1
    assert (len(cluster.asked), cluster.objects[ISVC]["metadata"]["generation"]) == before


def test_a_stale_ready_is_not_taken_for_the_new_version(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"))
    cluster.kserve.lag = 6
    run = night("2", champion="1")
    deploy(run)
    digests = [each.split()[1] for each in cluster.asked]
    assert digests.count(cluster.versions["1"]) == 2, "nobody asked version 1 in the second night"


def test_lost_connections_and_an_overloaded_server_are_met_with_patience(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    def shaky(number: int, method: str, path: str) -> Any:
        if path.endswith(":predict"):
            return None
        return {0: "drop", 1: (503, {"message": "etcd"}), 2: (429, {})}.get(number % 5)

    cluster.before = shaky
    deploy(night("1"))
    deploy(night("2", champion="1"))
    assert served(cluster) == {"2"} and cluster.aliases == {"champion": "2"}


def test_the_hook_tells_status_and_revisions(cluster: Any, night: Night, deploy: Deploy) -> None:
    deploy(night("1"))
    hook = KServeHook(
        conn_id=None,
        config_file=os.environ["AIRFLOW__TRUSTED_RETRAINING__CONFIG_FILE"],
        in_cluster=False,
    )
    assert hook.status("models", "demo-night")["deploymentMode"] == "Knative"
    assert hook.revisions("models", "demo-night")["latestReadyRevision"].endswith("-00001")
    assert hook.status("models", "nobody") == {} and hook.revisions("models", "nobody") == {}
