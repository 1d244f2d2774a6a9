"""Deployments without KServe: a Deployment, its Service, and one pod that is tried first."""

import json
import time
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tasks.contract import RunDirectory

Object = dict[str, Any]
Deploy = Callable[..., Object]
Night = Callable[..., RunDirectory]
PLAIN = {"target": "deployment"}


def version_of(cluster: Any, name: str) -> str:
    """Return the version in the pods of a Deployment, with their number."""
    spec = cluster.objects["deployments", name]["spec"]
    environment = spec["template"]["spec"]["containers"][0]["env"]
    digest = next(each["value"] for each in environment if each["name"] == "MODEL_DIGEST")
    numbers = {digest: version for version, digest in cluster.versions.items()}
    return f"{numbers[digest]} x {spec.get('replicas', 1)}"


def test_two_versions_follow_each_other(cluster: Any, night: Night, deploy: Deploy) -> None:
    deploy(night("1"), **PLAIN)
    assert version_of(cluster, "demo-night") == "1 x 1", "the autoscaler decides about the number"
    deploy(night("2", champion="1"), **PLAIN)
    assert version_of(cluster, "demo-night") == "2 x 1"
    assert version_of(cluster, "demo-night-canary") == "2 x 0"
    assert cluster.aliases == {"champion": "2"}
    digest = cluster.versions["2"]
    services = [each.split()[0] for each in cluster.asked if each.endswith(digest)]
    assert services == ["demo-night-canary", "demo-night"]
    scaler = cluster.objects["horizontalpodautoscalers", "demo-night"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 4)


def test_every_object_is_one_that_kubernetes_takes(
    cluster: Any, night: Night, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_STORAGE_SECRET", "models")
    deploy(night("1"), **PLAIN, gpu=1)
    kinds = set()
    for manager in cluster.applied.values():
        body = manager["trusted-retraining"]
        kinds.add(body["kind"])
        kubernetes_validate.validate(body, "1.31", strict=True)
    scaled = {"Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    assert kinds == {"Service", "ConfigMap", *scaled}
    template = cluster.objects["deployments", "demo-night"]["spec"]["template"]
    server = template["spec"]["containers"][0]
    assert server["envFrom"] == [{"secretRef": {"name": "models"}}]
    assert server["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"readinessProbe", "livenessProbe", "startupProbe"} <= server.keys()
    assert server["args"][1].endswith("/models/demo_night/1")
    selector = cluster.objects["services", "demo-night"]["spec"]["selector"]
    assert selector.items() <= template["metadata"]["labels"].items()
    canary = cluster.objects["deployments", "demo-night-canary"]["spec"]["template"]
    assert not selector.items() <= canary["metadata"]["labels"].items()


def test_a_cluster_without_autoscaler_and_budget_gets_two_pods(
    cluster: Any, night: Night, deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.known = {}
    deploy(night("1"), **PLAIN)
    assert version_of(cluster, "demo-night") == "1 x 2"
    kinds = {plural for plural, _ in cluster.objects}
    assert kinds == {"services", "deployments", "configmaps"}
    assert "autoscaling/v2 is not served here" in caplog.text
    assert "policy/v1 is not served here" in caplog.text


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("wrong", "differ from the offline predictions"), ("errors", "status 503")],
)
def test_a_pod_that_does_not_prove_itself_never_serves(
    cluster: Any, night: Night, deploy: Deploy, behaviour: str, reason: str
) -> None:
    deploy(night("1"), **PLAIN)
    run = night("2", champion="1")
    cluster.behaviour[cluster.versions["2"]] = behaviour
    with pytest.raises(AirflowException, match=f"{reason}.*version 1 serves as before"):
        deploy(run, **PLAIN)
    assert version_of(cluster, "demo-night") == "1 x 1"
    assert version_of(cluster, "demo-night-canary") == "2 x 0"
    assert cluster.aliases == {"champion": "1"}


def test_a_failure_after_the_exchange_brings_the_former_pods_back(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"), **PLAIN)
    run = night("2", champion="1")

    def spoil(_: int, method: str, path: str) -> None:
        if path.startswith("/demo-night/"):
            cluster.behaviour[cluster.versions["2"]] = "wrong"

    cluster.before = spoil
    with pytest.raises(AirflowFailException, match="version 1 serves as before"):
        deploy(run, **PLAIN)
    assert version_of(cluster, "demo-night") == "1 x 1"
    assert cluster.aliases == {"champion": "1"}


def test_pods_that_do_not_start_are_given_up_with_their_reason(
    cluster: Any, night: Night, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(night("1"), **PLAIN)
    run = night("2", champion="1")
    cluster.deployments.never_ready.add(cluster.versions["2"])
    cluster.pods = [
        {
            "metadata": {"name": "demo-night-canary-x"},
            "status": {
                "containerStatuses": [
                    {
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"message": "refused: files were changed"}},
                    }
                ]
            },
        }
    ]
    with pytest.raises(AirflowException, match="CrashLoopBackOff: refused: files were changed"):
        deploy(run, **PLAIN, startup_seconds=1)
    assert version_of(cluster, "demo-night") == "1 x 1"


def test_the_word_of_an_attempt_before_is_not_taken_for_this_one_s(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    cluster.deployments.late = 3
    ended = {"metadata": {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    reason = {"restartCount": 9, "state": {"terminated": {"reason": "Error", "message": "no"}}}
    cluster.pods = [ended | {"status": {"containerStatuses": [reason]}}]
    deploy(night("1"), **PLAIN)
    assert version_of(cluster, "demo-night") == "1 x 1"


@pytest.mark.parametrize(("restarts", "given_up"), [(1, False), (2, True)])
def test_a_server_that_says_why_it_ends_is_given_up_after_a_few_starts(
    cluster: Any, night: Night, deploy: Deploy, restarts: int, given_up: bool
) -> None:
    run = night("1")
    cluster.deployments.never_ready.add(cluster.versions["1"])
    ended = {"reason": "Error", "message": "files were changed", "exitCode": 1}
    server = {"state": {"running": {}}, "lastState": {"terminated": ended}}
    cluster.pods = [
        {
            "metadata": {"name": "demo-night-canary-x"},
            "status": {"containerStatuses": [server | {"restartCount": restarts}]},
        }
    ]
    started = time.monotonic()
    with pytest.raises(AirflowException, match="x: Error: files were changed; nothing served"):
        deploy(run, **PLAIN, startup_seconds=4)
    assert (time.monotonic() - started < 4) is given_up


def test_a_first_version_that_fails_leaves_no_pod(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    run = night("1")
    cluster.behaviour[cluster.versions["1"]] = "wrong"
    with pytest.raises(AirflowFailException, match="nothing served before, so nothing serves now"):
        deploy(run, **PLAIN)
    assert version_of(cluster, "demo-night-canary") == "1 x 0"
    assert ("deployments", "demo-night") not in cluster.objects


def test_the_deployment_of_somebody_else_is_left_alone(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    theirs: Object = {"replicas": 1, "template": {"spec": {"containers": [{"env": []}]}}}
    key = ("deployments", "demo-night-canary")
    cluster.objects[key] = {
        "kind": "Deployment",
        "metadata": {"name": key[1], "generation": 1, "resourceVersion": "1"},
        "spec": json.loads(json.dumps(theirs)),
        "status": {},
    }
    cluster.deployments.reconcile = lambda found: {}
    with pytest.raises(AirflowFailException, match="exists and is not ours"):
        deploy(night("1"), **PLAIN)
    assert cluster.objects[key]["spec"] == theirs


def test_after_a_kill_between_state_and_pods_the_next_attempt_catches_up(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"), **PLAIN)
    former = json.loads(json.dumps(cluster.objects["deployments", "demo-night"]))
    run = night("2", champion="1")
    deploy(run, **PLAIN)
    # what a kill right after the state was written leaves
    cluster.objects["deployments", "demo-night"] = former
    cluster.aliases["champion"] = "1"
    deploy(run, **PLAIN)
    assert version_of(cluster, "demo-night") == "2 x 1"
    assert cluster.aliases == {"champion": "2"}
    record = cluster.objects["configmaps", "demo-night-deployment-rollout"]
    state = json.loads(record["data"]["state"])
    assert state["previous"]["version"] == "1" and state["serving"]["version"] == "2"
