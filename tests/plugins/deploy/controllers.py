"""What the controller of Deployments would do to an object's status."""

from typing import Any

Object = dict[str, Any]


def digest_of(spec: Object) -> str:
    """Return the digest of the model that a pod serves."""
    return next(e["value"] for e in spec["containers"][0]["env"] if e["name"] == "MODEL_DIGEST")


class DeploymentController:
    """Gives a Deployment its pods at once, or never.

    Attributes
    ----------
    late : int
        Looks until pods are there; until then the condition is that of an attempt that failed.
    never_ready : set of str
        Digests whose pods do not start.
    """

    def __init__(self) -> None:
        self.late = 0
        self.never_ready: set[str] = set()
        self.looks: dict[tuple[str, int], int] = {}

    def reconcile(self, found: Object) -> Object:
        """Return the status that a Deployment has at this look."""
        spec = found["spec"]
        wanted = spec.setdefault("replicas", 1)
        seen = (found["metadata"]["name"], found["metadata"]["generation"])
        self.looks[seen] = self.looks.get(seen, 0) + 1
        is_ready = digest_of(spec["template"]["spec"]) not in self.never_ready
        is_ready = is_ready and self.looks[seen] > self.late
        failed = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        status = {
            "conditions": [] if is_ready else [failed],
            "observedGeneration": found["metadata"]["generation"],
            "replicas": wanted if is_ready else wanted + 1,
            "updatedReplicas": wanted if is_ready else 1,
            "availableReplicas": wanted if is_ready else wanted - 1,
        }
        return status
