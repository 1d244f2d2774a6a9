"""Nodes that say what no kubelet of theirs would: one that is lost, one that has a card."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from kubernetes.client import CoreV1Api
from kubernetes.config import new_client_from_config

from tasks.spec import Toleration
from tests.cluster.images import BASE
from tests.cluster.kubectl import kubectl
from tests.cluster.pod_operator.attempts import pods
from tests.waiting import wait_for
from trusted_retraining.pods import _DEAD_NODE

GONE = "gone.invalid"
"""Name of a node of which there is only the record."""
GPU = "nvidia.com/gpu"
PRESENT = "nvidia.com/gpu.present"
OVERWRITE = "--overwrite"


def dead_node_tolerations(seconds: int) -> tuple[Toleration, ...]:
    return tuple(
        toleration.model_copy(update={"tolerationSeconds": seconds}) for toleration in _DEAD_NODE
    )


def condition(ready: str) -> dict[str, Any]:
    moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    beat = {"lastHeartbeatTime": moment, "lastTransitionTime": moment, "reason": "Test"}
    return {"conditions": [{"type": "Ready", "status": ready, **beat}]}


def patch_status(path: str, status: dict[str, Any]) -> None:
    """Say what a kubelet would say."""
    client = CoreV1Api(new_client_from_config())
    client.api_client.call_api(
        f"/api/v1/{path}/status",
        "PATCH",
        header_params={"Content-Type": "application/merge-patch+json"},
        body={"status": status},
        auth_settings=["BearerToken"],
        _preload_content=False,
    )


def run_on_record_only(namespace: str) -> None:
    """Report the pod as running, as its node did before it went dark."""
    wait_for(lambda: GONE in kubectl("-n", namespace, "get", "pods", "-o", "wide"))
    (pod,) = pods(namespace)
    moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    container = {
        "name": "stage", "ready": True, "restartCount": 0, "image": BASE, "imageID": "",
        "state": {"running": {"startedAt": moment}},
    }  # fmt: skip
    name = pod.removeprefix("pod/")
    patch_status(
        f"namespaces/{namespace}/pods/{name}",
        {"phase": "Running", "startTime": moment, "containerStatuses": [container]},
    )
    patch_status(f"nodes/{GONE}", condition("Unknown"))


def advertise(node: str, cards: str | None) -> None:
    """Have the node say how many cards it has, as a device plugin would; None: nothing of cards."""
    patch_status(f"nodes/{node}", {"capacity": {GPU: cards}, "allocatable": {GPU: cards}})


@contextmanager
def tainted_card(node: str) -> Iterator[None]:
    """Have the node say that it has a card, keep off all that do not mind it, and undo it all."""
    had = json.loads(kubectl("get", "node", node, "-o", "json"))
    cards = had["status"]["capacity"].get(GPU)
    label = had["metadata"]["labels"].get(PRESENT)
    tainted = any(taint["key"] == GPU for taint in had["spec"].get("taints", ()))
    try:
        if cards is None:
            advertise(node, "1")
        if not tainted:
            kubectl("taint", "node", node, f"{GPU}=present:NoSchedule")
        yield
    finally:
        if not tainted:
            kubectl("taint", "node", node, f"{GPU}-")
        kubectl("label", "node", node, f"{PRESENT}={label}" if label else f"{PRESENT}-", OVERWRITE)
        if cards is None:
            advertise(node, None)
