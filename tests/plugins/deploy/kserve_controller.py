"""KServe 0.20 in a few lines, written after its behaviour: webhooks, controller, and its pods.

What matters to a rollout: annotations of an InferenceService are copied to its pods, whose template
decides whether they are replaced; only the predictor is defaulted, not a canary; a canary's
predictor is merged into the one that serves, and its pods are taken from it; a predictor gets
another name only with another model; what no entry names any more is removed.
"""

import copy
import itertools
from typing import Any

from tests.plugins.deploy.controllers import digest_of

Object = dict[str, Any]
STOP = "serving.kserve.io/stop"
NOT_OF_A_POD = (
    *("minReplicas", "maxReplicas", "canaryTrafficPercent"),
    *("name", "labels", "deploymentStrategy"),
)


class KServeController:
    """Revisions in Knative mode, named pods in Standard mode.

    Attributes
    ----------
    lag : int
        Looks at an object before a change is seen; until then its status is that of before.
    never_ready : set of str
        Digests whose pods do not start.
    forbidden : dict of str to str
        Digest to what the API server says against its pods.
    mode : str
        What it serves in, whatever the annotation says; empty follows the annotation.
    unknown : tuple of str
        Fields of an InferenceService that this release does not have.
    workloads : dict
        Name of a Deployment or revision to template and pods.
    """

    def __init__(self) -> None:
        self.lag = 2
        self.never_ready: set[str] = set()
        self.forbidden: dict[str, str] = {}
        self.mode = ""
        self.unknown: tuple[str, ...] = ()
        self.workloads: dict[str, Object] = {}
        self.looks: dict[tuple[str, int], int] = {}
        self._numbers = itertools.count(1)

    def schema(self) -> Object:
        """Return what the API server tells of the kind."""
        anything = {"x-kubernetes-preserve-unknown-fields": True}
        pod = ("containers", "volumes", "securityContext", "automountServiceAccountToken")
        more = ("serviceAccountName", "imagePullSecrets", "nodeSelector", "tolerations")
        names = [each for each in (*NOT_OF_A_POD, *pod, *more) if each not in self.unknown]
        predictor = {"properties": dict.fromkeys(names, anything)}
        entry = {"properties": {"predictor": predictor, "trafficPercent": {"type": "integer"}}}
        spec = {"predictor": predictor, "canary": {"type": "array", "items": entry}}
        known = {key: value for key, value in spec.items() if key not in self.unknown}
        kind = {"group": "serving.kserve.io", "version": "v1beta1", "kind": "InferenceService"}
        whole = {
            "properties": {"spec": {"properties": known}},
            "x-kubernetes-group-version-kind": [kind],
        }
        return {"components": {"schemas": {"InferenceService": whole}}}

    def admit(self, before: Object | None, after: Object) -> str:
        """Default what is to be stored; return why it is refused, or nothing."""
        predictor = after["spec"].get("predictor") or {}
        if not predictor.get("containers"):
            return "" if not predictor else "exactly one implementation is needed"
        old = ((before or {}).get("spec") or {}).get("predictor") or {}
        if old and old.get("name") != predictor.get("name") and _uri(old) == _uri(predictor):
            return "predictor.name change requires a model change (e.g. storageUri)"
        predictor["containers"][0]["resources"]["limits"].setdefault("cpu", "1")
        names = {predictor.get("name")}
        for each in after["spec"].get("canary", []):
            beside = each["predictor"]
            if "maxReplicas" in beside or "deploymentStrategy" in beside:
                return "a canary uses fixed replicas"
            if beside["minReplicas"] > predictor["minReplicas"]:
                return "a canary's minReplicas must not exceed the stable predictor's"
            if not beside.get("name") or beside["name"] in names:
                return "a canary needs a predictor.name of its own"
            names.add(beside["name"])
        return ""

    def reconcile(self, found: Object) -> Object:
        """Return the status that an object has at this look."""
        metadata, status = found["metadata"], copy.deepcopy(found.get("status") or {})
        seen = (metadata.get("uid", metadata["name"]), metadata["generation"])
        self.looks[seen] = self.looks.get(seen, 0) + 1
        if self.looks[seen] <= self.lag:
            return status
        mode = self.mode or metadata["annotations"]["serving.kserve.io/deploymentMode"]
        status["deploymentMode"] = mode
        name, namespace = metadata["name"], metadata["namespace"]
        status["url"] = f"http://{name}.{namespace}.example.com"
        if metadata["annotations"].get(STOP) == "true":
            self.workloads.clear()
            return status | {"conditions": [_ready(False, "Stopped")], "components": {}}
        update = self._knative if mode == "Knative" else self._standard
        return update(found, status)

    def pods(self) -> list[Object]:
        """Return all pods."""
        return [
            {
                "metadata": {"name": f"{name}-{uid}", "uid": uid, "labels": each["labels"]},
                "status": {"conditions": [_ready(self._starts(each["spec"]))]},
            }
            for name, each in self.workloads.items()
            for uid in each["pods"]
        ]

    def deployment(self, name: str) -> Object | None:
        """Return a Deployment, as far as it tells why it has no pods."""
        each = self.workloads.get(name.removesuffix("-deployment"))
        if each is None:
            return None
        refusal = self.forbidden.get(digest_of(each["spec"]))
        failure = {"type": "ReplicaFailure", "status": "True", "message": refusal}
        return {"metadata": {"name": name}, "status": {"conditions": [failure] if refusal else []}}

    def serving(self, found: Object) -> dict[str, str]:
        """Return which digest answers at which Service."""
        status, name = found.get("status") or {}, found["metadata"]["name"]
        if status.get("deploymentMode") != "Knative":
            return {
                each: digest_of(one["spec"])
                for each, one in self.workloads.items()
                if self._starts(one["spec"])
            }
        told = (status.get("components") or {}).get("predictor") or {}
        if not told.get("latestReadyRevision"):
            return {}
        latest = self.workloads[told["latestReadyRevision"]]["spec"]
        most = max(told["traffic"], key=lambda each: each["percent"])
        return {
            f"latest-{name}-predictor": digest_of(latest),
            f"{name}-predictor": digest_of(self.workloads[most["revisionName"]]["spec"]),
        }

    def selected(self, labels: dict[str, str]) -> str:
        """Return the digest that answers at a Service with this selector; empty if none does."""
        for each in self.workloads.values():
            if labels.items() <= each["labels"].items() and self._starts(each["spec"]):
                return digest_of(each["spec"])
        return ""

    def _starts(self, spec: Object) -> bool:
        return digest_of(spec) not in (self.never_ready | self.forbidden.keys())

    def _template(self, found: Object, predictor: Object, app: str) -> Object:
        name = found["metadata"]["name"]
        spec = {key: value for key, value in predictor.items() if key not in NOT_OF_A_POD}
        labels = found["metadata"].get("labels", {}) | predictor.get("labels", {})
        own = {"serving.kserve.io/inferenceservice": name, "component": "predictor", "app": app}
        annotations = dict(found["metadata"]["annotations"])
        return copy.deepcopy({"spec": spec, "labels": labels | own, "annotations": annotations})

    def _run(self, name: str, template: Object, replicas: int) -> None:
        there = self.workloads.get(name, {})
        pods = there.get("pods", [])
        if {key: there.get(key) for key in template} != template:
            pods = []
        new = [f"uid-{next(self._numbers)}" for _ in range(replicas - len(pods))]
        self.workloads[name] = template | {"pods": [*pods[:replicas], *new]}

    def _standard(self, found: Object, status: Object) -> Object:
        stable, canaries = found["spec"]["predictor"], found["spec"].get("canary", [])
        taken = sum(each["predictor"]["minReplicas"] for each in canaries)
        replicas = {stable.get("name", ""): (stable, max(1, stable["minReplicas"] - taken))}
        for each in canaries:
            merged = _merged(stable, each["predictor"])
            replicas[merged["name"]] = (merged, merged["minReplicas"])
        expected = {}
        for name, (predictor, count) in replicas.items():
            full = "-".join(filter(None, (found["metadata"]["name"], name, "predictor")))
            expected[full] = self._template(found, predictor, f"isvc.{full}")
            self._run(full, expected[full], count)
        self.workloads = {key: one for key, one in self.workloads.items() if key in expected}
        is_ready = self._starts(stable)
        return status | {
            "canaryStatuses": [
                {"name": each["predictor"]["name"], "ready": self._starts(each["predictor"])}
                for each in canaries
            ],
            "conditions": [_ready(is_ready, "" if is_ready else "MinimumReplicasUnavailable")],
            "components": {"predictor": {}},
        }

    def _knative(self, found: Object, status: Object) -> Object:
        predictor = found["spec"]["predictor"]
        percent, name = predictor.get("canaryTrafficPercent"), found["metadata"]["name"]
        template = self._template(found, predictor, "")
        template["labels"].pop("app")
        # bounds on the number of pods are annotations of a revision
        template["annotations"]["scale"] = [predictor["minReplicas"], predictor["maxReplicas"]]
        newest = next(reversed(self.workloads), "")
        there = self.workloads.get(newest, {})
        if {key: there.get(key) for key in template} != template:
            newest = f"{name}-predictor-{len(self.workloads) + 1:05d}"
        self._run(newest, template, max(1, predictor["minReplicas"]))
        told = dict((status.get("components") or {}).get("predictor") or {})
        told["latestCreatedRevision"] = newest
        is_ready = self._starts(template["spec"])
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
                    "url": f"http://latest-{name}-predictor.example.com",
                }
            ]
            if share < 100:
                rest = {"revisionName": rolled_out, "percent": 100 - share, "tag": "prev"}
                told["traffic"].append(rest | {"latestRevision": False})
            elif latest == newest:
                told["latestRolledoutRevision"] = newest
        failure = {"reason": "ModelLoadFailed", "message": "out of memory"}
        return status | {
            "components": {"predictor": told},
            "conditions": [_ready(is_ready, "" if is_ready else "RevisionFailed")],
            "modelStatus": {} if is_ready else {"lastFailureInfo": failure},
        }


def _merged(stable: Object, canary: Object) -> Object:
    """Lay a canary's predictor over what serves, as KServe does: maps grow, lists are replaced."""
    whole = copy.deepcopy(stable)
    for key, value in canary.items():
        both = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = _merged(whole[key], value) if both else copy.deepcopy(value)
    return whole


def _uri(predictor: Object) -> str:
    environment = predictor["containers"][0]["env"]
    return next((each["value"] for each in environment if each["name"] == "STORAGE_URI"), "")


def _ready(value: bool, reason: str = "") -> Object:
    return {"type": "Ready", "status": str(value), "reason": reason}
