"""Every way in which a pod ends is told apart, from what clusters report."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiClient, ApiException, V1Pod

from tasks.contract import BadConfig, StageError
from trusted_retraining.operators.diagnosis import diagnose, hopeless, refused

NOW = datetime(2026, 7, 4, 2, 0, tzinfo=UTC)


def pod(*, state: Any = None, deleted: datetime | None = None, **status: Any) -> V1Pod:
    """Return a pod as the client reads it from the API server's answer."""
    if state is not None:
        status["containerStatuses"] = [
            {"name": "istio-proxy", "ready": True, "restartCount": 0, "image": "i", "imageID": "i",
             "state": {"running": {}}},
            {"name": "stage", "ready": False, "restartCount": 0, "image": "i", "imageID": "i",
             "state": state},
        ]  # fmt: skip
    metadata = {"name": "demo-train-1", "labels": {"trusted-retraining/stage": "train"}}
    if deleted is not None:
        metadata["deletionTimestamp"] = deleted.isoformat()
    container = {
        "name": "stage",
        "image": "tasks@sha256:1",
        "resources": {"limits": {"memory": "16Gi"}},
    }
    document = {
        "metadata": metadata,
        "spec": {"nodeName": "gpu-7", "activeDeadlineSeconds": 600, "containers": [container]},
        "status": {"startTime": NOW.isoformat(), **status},
    }
    answer = SimpleNamespace(data=json.dumps(document))
    return ApiClient().deserialize(answer, "V1Pod")


def ended(exit_code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "message": message}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def disruption(reason: str) -> list[dict[str, str]]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason}]


def unscheduled(reason: str, message: str = "") -> list[dict[str, str]]:
    return [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]


CASES = [
    ("exit", pod(phase="Failed", state=ended(65, message="epoch 1\nrow 7\n")), "row 7"),
    ("exit", pod(phase="Failed", state=ended(139)), "without saying why"),
    ("out of memory", pod(phase="Failed", state=ended(137, "OOMKilled")), "more than 16Gi"),
    ("evicted", pod(phase="Failed", reason="Evicted", message="low on\nmemory"), "low on memory"),
    ("evicted", pod(phase="Failed", state=ended(137), reason="Evicted"), "evicted from gpu-7"),
    (
        "evicted",
        pod(phase="Failed", conditions=disruption("PreemptionByScheduler")),
        "higher priority",
    ),
    ("evicted", pod(phase="Failed", conditions=disruption("EvictionByEvictionAPI")), "emptied"),
    ("node lost", pod(phase="Failed", conditions=disruption("DeletionByPodGC")), "node is gone"),
    ("node lost", pod(phase="Failed", conditions=disruption("DeletionByTaintManager")), "gpu-7"),
    ("node lost", pod(phase="Failed", reason="NodeLost", message="unresponsive"), "unresponsive"),
    ("node lost", pod(phase="Failed", reason="Terminated", message="node shutdown"), "shutdown"),
    (
        "node lost",
        pod(phase="Running", state={"running": {}}, deleted=NOW - timedelta(days=1)),
        "gpu-7 does not answer",
    ),
    (
        "node lost",
        pod(
            phase="Running",
            state={"running": {}},
            deleted=NOW - timedelta(days=1),
            conditions=disruption("DeletionByTaintManager"),
        ),
        "node lost: node gpu-7 does not answer",
    ),
    ("deleted", pod(phase="Running", state=ended(143), deleted=NOW), "was deleted"),
    ("deadline", pod(phase="Failed", reason="DeadlineExceeded"), "stage_timeout_minutes, 10"),
    ("deadline", pod(phase="Failed", state=ended(143), reason="DeadlineExceeded"), "longer"),
    ("image", pod(phase="Pending", state=waiting("ImagePullBackOff", "no such tag")), "no such"),
    ("image", pod(phase="Pending", state=waiting("ErrImageNeverPull")), "tasks@sha256:1"),
    (
        "not started",
        pod(phase="Pending", state=waiting("CreateContainerConfigError", 'secret "x" not found')),
        'secret "x" not found',
    ),
    ("not started", pod(phase="Failed", state=ended(128, "StartError", "no python")), "no python"),
    (
        "unschedulable",
        pod(phase="Pending", conditions=unscheduled("Unschedulable", "0/3 nodes: no GPU")),
        "0/3 nodes: no GPU",
    ),
    (
        "unschedulable",
        pod(phase="Pending", conditions=unscheduled("SchedulingGated")),
        "queue to admit it",
    ),
    ("refused", pod(phase="Failed", reason="OutOfnvidia.com/gpu"), "gpu-7 refused it"),
    ("unknown", pod(phase="Running", state={"running": {}}), "says no more"),
]


@pytest.mark.parametrize(("kind", "found", "text"), CASES, ids=lambda case: str(case)[:20])
def test_each_end_has_its_line(kind: str, found: V1Pod, text: str) -> None:
    diagnosis = diagnose(found, name="demo-train-1")
    assert diagnosis.kind == kind
    assert text in diagnosis.reason and "\n" not in diagnosis.reason
    assert diagnosis.exit_code != 0


def test_only_what_stays_wrong_is_not_tried_again() -> None:
    wrong = pod(phase="Pending", state=waiting("InvalidImageName", "not a name"))
    assert not diagnose(wrong, name="x").retry
    assert all(diagnose(found, name="x").retry for _, found, _ in CASES)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("TaintManagerEviction", "node lost"),
        ("NodeNotReady", "node lost"),
        ("Preempted", "evicted"),
        ("Killing", "deleted"),
    ],
)
def test_a_pod_that_is_gone_is_explained_by_its_events(event: str, kind: str) -> None:
    events = [SimpleNamespace(reason=reason, message="m") for reason in ("Pulled", event)]
    assert diagnose(None, events, name="demo-train-1").kind == kind


def test_a_start_that_takes_too_long_tells_the_last_warning() -> None:
    slow = pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "True"}])
    events = [SimpleNamespace(reason="FailedMount", type="Warning", message="no such volume")]
    found = diagnose(slow, events, name="x", timed_out=True)
    assert found.kind == "not started" and "no such volume" in found.reason


def test_a_pod_given_up_for_time_is_told_so() -> None:
    running = pod(phase="Running", state={"running": {}})
    assert diagnose(running, name="x", timed_out=True).kind == "deadline"


def test_waiting_makes_sense_only_while_there_is_hope() -> None:
    late = NOW + timedelta(minutes=5)
    assert hopeless(pod(phase="Running", state={"running": {}}), late) is None
    assert hopeless(pod(phase="Running", state={"running": {}}, deleted=NOW), NOW) is None
    assert "gpu-7" in str(hopeless(pod(phase="Running", state={"running": {}}, deleted=NOW), late))
    assert hopeless(pod(phase="Running", state=ended(0), deleted=NOW), late) is None
    unmade = pod(phase="Pending", state=waiting("CreateContainerConfigError", "no secret"))
    assert hopeless(unmade, NOW) is None
    assert "no secret" in str(hopeless(unmade, late))
    # left as it was by a kubelet that had ended the pod
    assert hopeless(pod(phase="Failed", state={"running": {}}, reason="DeadlineExceeded"), NOW)


@pytest.mark.parametrize(
    ("status", "message", "retry"),
    [
        (403, 'pods "x" is forbidden: exceeded quota: stages', True),
        (403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest"', False),
        (404, 'namespaces "nights" not found', False),
        (422, 'Pod "x" is invalid: spec.hostname', False),
        (500, "etcdserver: request timed out", True),
    ],
)
def test_a_pod_that_is_not_taken_says_why(status: int, message: str, retry: bool) -> None:
    error = ApiException(status=status, reason="r")
    error.body = json.dumps({"kind": "Status", "message": message})
    found = refused(error)
    assert found.kind == "refused" and message in found.reason and found.retry is retry


def test_a_cluster_that_cannot_be_reached_is_no_reason_to_give_up() -> None:
    found = refused(ConnectionError("connection refused"))
    assert "connection refused" in found.reason and found.retry


def test_a_store_that_is_away_before_a_pod_is_asked_for_is_not_the_clusters_fault() -> None:
    found = refused(StageError("s3://bucket/runs: the store failed"))
    assert found.reason == "no pod was asked for: s3://bucket/runs: the store failed"
    assert found.retry
    assert not refused(BadConfig("s3://bucket/runs: the store refuses")).retry
