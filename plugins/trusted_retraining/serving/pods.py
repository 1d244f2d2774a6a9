"""What pods tell of themselves."""

from typing import Any

from trusted_retraining.serving.rollout import condition

PATIENCE = 2
"""Times that a server may be started again although it said why it ended: a store may be away."""


def ended(pod: dict[str, Any]) -> bool:
    """Tell whether a pod is one that was told to end."""
    return "deletionTimestamp" in pod["metadata"]


def is_ready(pod: dict[str, Any]) -> bool:
    """Tell whether a pod gets requests."""
    return condition(pod, "Ready").get("status") == "True"


def servers_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is told of a pod's containers, those that only prepare it first."""
    status = pod.get("status") or {}
    return [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]


def refuses(server: dict[str, Any]) -> bool:
    """Tell whether a server has ended twice and more, and said why: it will again."""
    return int(server.get("restartCount") or 0) >= PATIENCE and bool(_end_of(server).get("message"))


def pods_trouble(pods: list[dict[str, Any]]) -> str:
    """Return why pods do not start, in a few words that begin with a colon; empty if they do."""
    for each in pods:
        name = each["metadata"]["name"]
        for server in servers_of(each):
            waiting, ended = (server.get("state") or {}).get("waiting") or {}, _end_of(server)
            reason = waiting.get("reason") or ""
            # a server that has just been started again is not what is wrong
            if reason in ("", "ContainerCreating", "PodInitializing"):
                reason = ended.get("reason") or ""
            if reason:
                words = [reason, ended.get("message") or waiting.get("message")]
                told = ": ".join(" ".join(str(word).split()) for word in words if word)
                return f": {name}: {told}"[:500]
        scheduled = condition(each, "PodScheduled")
        if scheduled.get("status") == "False":
            return f": {name}: {scheduled.get('message')}"[:500]
    return ""


def _end_of(server: dict[str, Any]) -> dict[str, Any]:
    """Return how a container ended last; empty when it has not."""
    for state in (server.get("state"), server.get("lastState")):
        if ended := (state or {}).get("terminated"):
            return dict(ended)
    return {}
