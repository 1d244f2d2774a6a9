"""What KServe's controller, and that of Deployments, would do to an object's status."""

import copy
from typing import Any

Object = dict[str, Any]
STOP = "serving.kserve.io/stop"


def digest_of(spec: Object) -> str:
    """Return the digest of the model that a pod serves."""
    return next(e["value"] for e in spec["containers"][0]["env"] if e["name"] == "MODEL_DIGEST")


class KServeController:
    """Revisions in Knative mode, named pods in Standard mode.

    Attributes
    ----------
    lag : int
        Looks at an object before a change is seen; until then its status is that of before.
    never_ready : set of str
        Digests whose pods do not start.
    mode : str
        What it serves in, whatever the annotation says; empty follows the annotation.
    """

    def __init__(self) -> None:
        self.lag = 2
        self.never_ready: set[str] = set()
        self.mode = ""
        self.revisions: list[tuple[str, Object]] = []
        self.looks: dict[tuple[str, int], int] = {}

    def reconcile(self, found: Object) -> Object:
        """Return the status that an object has at this look."""
        metadata, status = found["metadata"], copy.deepcopy(found.get("status") or {})
        seen = (metadata.get("uid", metadata["name"]), metadata["generation"])
        self.looks[seen] = self.looks.get(seen, 0) + 1
        if self.looks[seen] <= self.lag:
            return status
        mode = self.mode or metadata["annotations"]["serving.kserve.io/deploymentMode"]
        status["observedGeneration"] = metadata["generation"]
        status["deploymentMode"] = mode
        name, namespace = metadata["name"], metadata["namespace"]
        status["url"] = f"http://{name}.{namespace}.example.com"
        if metadata["annotations"].get(STOP) == "true":
            return status | {"conditions": [_ready(False, "Stopped")], "components": {}}
        update = self._knative if mode == "Knative" else self._standard
        return update(found, status)

    def serving(self, found: Object) -> dict[str, str]:
        """Return which digest answers at which Service."""
        status, name = found.get("status") or {}, found["metadata"]["name"]
        served = {}
        if status.get("deploymentMode") == "Knative":
            specs = dict(self.revisions)
            told = (status.get("components") or {}).get("predictor") or {}
            if told.get("latestReadyRevision"):
                latest = specs[told["latestReadyRevision"]]
                served[f"latest-{name}-predictor"] = digest_of(latest)
                most = max(told["traffic"], key=lambda each: each["percent"])
                served[f"{name}-predictor"] = digest_of(specs[most["revisionName"]])
            return served
        for spec in [
            found["spec"]["predictor"],
            *(each["predictor"] for each in found["spec"].get("canary", [])),
        ]:
            if digest_of(spec) not in self.never_ready:
                served[f"{name}-{spec['name']}-predictor"] = digest_of(spec)
        return served

    def _knative(self, found: Object, status: Object) -> Object:
        spec = dict(found["spec"]["predictor"])
        percent = spec.pop("canaryTrafficPercent", None)
        if not self.revisions or self.revisions[-1][1] != spec:
            number = len(self.revisions) + 1
            self.revisions.append((f"{found['metadata']['name']}-predictor-{number:05d}", spec))
        told = dict((status.get("components") or {}).get("predictor") or {})
        newest = self.revisions[-1][0]
        told["latestCreatedRevision"] = newest
        is_ready = digest_of(spec) not in self.never_ready
        if is_ready:
            told["latestReadyRevision"] = newest
        latest = told.get("latestReadyRevision")
        rolled_out = told.get("latestRolledoutRevision")
        if latest is not None:
            share = 100 if percent is None or rolled_out in (None, latest) else percent
            told["traffic"] = [
                {
                    "latestRevision": True,
                    "revisionName": latest,
                    "percent": share,
                    "tag": "latest",
                    "url": f"http://latest-{found['metadata']['name']}-predictor.example.com",
                }
            ]
            if share < 100:
                rest = {"revisionName": rolled_out, "percent": 100 - share, "tag": "prev"}
                told["traffic"].append(rest | {"latestRevision": False})
            elif latest == newest:
                told["latestRolledoutRevision"] = newest
        reason = "" if is_ready else "RevisionFailed"
        failure = {"reason": "ModelLoadFailed", "message": "out of memory"}
        return status | {
            "components": {"predictor": told},
            "conditions": [_ready(is_ready, reason)],
            "modelStatus": {} if is_ready else {"lastFailureInfo": failure},
        }

    def _standard(self, found: Object, status: Object) -> Object:
        canaries = [
            {
                "name": each["predictor"]["name"],
                "ready": digest_of(each["predictor"]) not in self.never_ready,
                "trafficPercent": each["trafficPercent"],
            }
            for each in found["spec"].get("canary", [])
        ]
        is_ready = digest_of(found["spec"]["predictor"]) not in self.never_ready
        return status | {
            "canaryStatuses": canaries,
            "conditions": [_ready(is_ready, "" if is_ready else "MinimumReplicasUnavailable")],
            "components": {"predictor": {}},
        }


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


def _ready(value: bool, reason: str = "") -> Object:
    return {"type": "Ready", "status": str(value), "reason": reason}
