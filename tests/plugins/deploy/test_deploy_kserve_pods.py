"""Deployments to KServe in Standard mode: which pods are replaced, by which step, and which not."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tests.plugins.deploy.kserve_service import ISVC, RECORD, Deploy, Night, Object, served, state
from trusted_retraining.serving.plan import STATE

STANDARD = {"mode": "standard"}
CHAMPION = ("services", "demo-night-champion")


@pytest.fixture
def seen(cluster: Any) -> dict[str, list[str]]:
    """Pods by the version that they serve, all that there ever were."""
    found: dict[str, list[str]] = {}

    def look(_: int, method: str, path: str) -> None:
        numbers = {digest: version for version, digest in cluster.versions.items()}
        for each in cluster.kserve.workloads.values():
            digest = next(
                e["value"] for e in each["spec"]["containers"][0]["env"] if "DIGEST" in e["name"]
            )
            pods = found.setdefault(numbers[digest], [])
            pods += [uid for uid in each["pods"] if uid not in pods]

    cluster.after = look
    return found


def running(cluster: Any) -> list[str]:
    return [each["metadata"]["uid"] for each in cluster.kserve.pods()]


def test_the_pod_that_was_proven_is_the_one_that_serves(
    cluster: Any, night: Night, deploy: Deploy, seen: dict[str, list[str]]
) -> None:
    for version, champion in (("1", None), ("2", "1"), ("3", "2")):
        deploy(night(version, champion=champion), **STANDARD)
        assert served(cluster) == {version}
    assert {version: len(pods) for version, pods in seen.items()} == {"1": 1, "2": 1, "3": 1}
    assert running(cluster) == seen["3"], "the former ones have ended"


def test_a_refused_canary_and_a_roll_back_replace_no_pod_that_serves(
    cluster: Any, night: Night, deploy: Deploy, seen: dict[str, list[str]]
) -> None:
    deploy(night("1"), **STANDARD)
    run = night("2", champion="1")
    cluster.behaviour[cluster.versions["2"]] = "wrong"
    with pytest.raises(AirflowFailException, match="version 1 serves as before"):
        deploy(run, **STANDARD)
    cluster.behaviour.clear()

    def away(_: int, method: str, path: str) -> Any:
        return (503, {}) if method == "POST" and path.endswith("alias") else None

    cluster.before = away
    with pytest.raises(AirflowException, match="version 1 serves as before"):
        deploy(run, **STANDARD)
    assert served(cluster) == {"1"} and running(cluster) == seen["1"] and len(seen["1"]) == 1


def test_the_former_version_runs_until_the_new_one_is_confirmed(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"), **STANDARD, min_replicas=2)
    beside = []

    def look(_: int, method: str, path: str) -> None:
        if path.endswith("alias") and method == "POST":
            beside.append(json.loads(json.dumps(cluster.objects[ISVC]["spec"])))

    cluster.before = look
    deploy(night("2", champion="1"), **STANDARD, min_replicas=2)
    predictor, (former,) = beside[0]["predictor"], beside[0]["canary"]
    assert former["trafficPercent"] == 0 and former["predictor"]["minReplicas"] == 2
    digests = [json.dumps(each).count(cluster.versions["1"]) for each in (predictor, former)]
    assert digests == [0, 1]
    # KServe takes the canary's pods from those of what serves
    assert predictor["minReplicas"] == 4
    assert "canary" not in cluster.objects[ISVC]["spec"]
    assert cluster.objects[ISVC]["spec"]["predictor"]["minReplicas"] == 2


def test_other_settings_are_tried_beside_and_then_exchanged_under_the_same_name(
    cluster: Any, night: Night, deploy: Deploy, seen: dict[str, list[str]]
) -> None:
    run = night("1")
    deploy(run, **STANDARD)
    name, selector = predictor_name(cluster), dict(cluster.objects[CHAMPION]["spec"]["selector"])
    deploy(run, **STANDARD, memory="3Gi")
    assert predictor_name(cluster) == name, "KServe refuses another name for the same model"
    assert cluster.objects[CHAMPION]["spec"]["selector"] == selector
    # what served, what was tried, what serves
    assert len(seen["1"]) == 3 and running(cluster) == seen["1"][2:]
    assert state(cluster)["previous"]["version"] == "1"


def test_another_number_of_pods_replaces_none(
    cluster: Any, night: Night, deploy: Deploy, seen: dict[str, list[str]]
) -> None:
    run = night("1")
    deploy(run, **STANDARD)
    deploy(run, **STANDARD, max_replicas=9)
    assert cluster.objects[ISVC]["spec"]["predictor"]["maxReplicas"] == 9
    assert len(seen["1"]) == 1


def predictor_name(cluster: Any) -> str:
    return str(cluster.objects[ISVC]["spec"]["predictor"]["name"])


def as_an_earlier_release(cluster: Any) -> str:
    """Have the record in the annotation, and the name after version and settings."""
    record = json.loads(cluster.objects.pop(RECORD)["data"]["state"])
    for key in ("held", "unconfirmed"):
        record.pop(key)
    for each in filter(None, (record[key] for key in ("serving", "candidate", "previous"))):
        each.pop("name")
        each["spec"]["name"] = "v1-0af31"
    found: Object = cluster.objects[ISVC]
    found["spec"]["predictor"]["name"] = "v1-0af31"
    del found["spec"]["predictor"]["labels"]
    found["metadata"]["annotations"][STATE] = json.dumps(record)
    for body in (cluster.applied[ISVC]["trusted-retraining"],):
        body["metadata"]["annotations"][STATE] = json.dumps(record)
        body["spec"] = json.loads(json.dumps(found["spec"]))
    found["metadata"]["generation"] += 1
    return "v1-0af31"


@pytest.mark.parametrize("again", [True, False], ids=["the same model", "the next"])
def test_what_an_earlier_release_serves_goes_on(
    cluster: Any, night: Night, deploy: Deploy, again: bool
) -> None:
    run = night("1")
    deploy(run, **STANDARD)
    name = as_an_earlier_release(cluster)
    if again:
        deploy(run, **STANDARD, memory="3Gi")
        assert predictor_name(cluster) == name
    else:
        deploy(night("2", champion="1"), **STANDARD)
    assert served(cluster) == {"1" if again else "2"}
    assert STATE not in cluster.objects[ISVC]["metadata"]["annotations"]
    assert state(cluster)["previous"]["version"] == "1"


def test_the_record_goes_with_its_object(cluster: Any, night: Night, deploy: Deploy) -> None:
    deploy(night("1"), **STANDARD)
    found = cluster.objects.pop(ISVC)
    reference = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    (owner,) = cluster.objects[RECORD]["metadata"]["ownerReferences"]
    assert owner == reference | {"name": "demo-night", "uid": found["metadata"]["uid"]}
    # a record that outlives it speaks for no other object of that name
    cluster.objects[ISVC] = json.loads(json.dumps(found))
    cluster.objects[ISVC]["metadata"]["uid"] = "another"
    with pytest.raises(AirflowFailException, match="nothing tells what serves"):
        deploy(night("2", champion="1"), **STANDARD)


@pytest.mark.parametrize(
    ("message", "final"),
    [('violates PodSecurity "restricted:latest"', True), ("exceeded quota: models", False)],
)
def test_pods_that_are_refused_are_told_with_the_reason(
    cluster: Any, night: Night, deploy: Deploy, message: str, final: bool
) -> None:
    run = night("1")
    cluster.kserve.forbidden[cluster.versions["1"]] = message
    looks: list[str] = []
    cluster.before = lambda _, method, path: looks.append(path)
    with pytest.raises(AirflowException, match=message):
        deploy(run, **STANDARD, startup_seconds=2)
    waited = sum("inferenceservices" in each for each in looks)
    assert (waited < 30) is final, "what will never be admitted is not waited for"


def test_a_field_that_the_server_does_not_declare_is_final(
    cluster: Any, night: Night, operator: Callable[..., Any]
) -> None:
    run = night("1")
    refused: list[str] = []

    def too_old(_: int, method: str, path: str) -> Any:
        if method != "PATCH" or "inferenceservices" not in path:
            return None
        refused.append(path)
        return 500, {"message": "failed: .spec.predictor.name: field not declared in schema"}

    cluster.before = too_old
    with pytest.raises(AirflowFailException, match="field not declared in schema"):
        operator(**STANDARD).execute({"run_id": run.run_id, "params": {}})
    assert len(refused) == 1
