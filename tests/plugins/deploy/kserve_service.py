"""The InferenceService of a night, and what it tells those who look at it."""

import json
from collections.abc import Callable
from typing import Any

from tasks.contract import RunDirectory

Object = dict[str, Any]
Deploy = Callable[..., Object]
Night = Callable[..., RunDirectory]
ISVC = ("inferenceservices", "demo-night")
RECORD = ("configmaps", "demo-night-rollout")
MODES = ["knative", "standard"]


def served(cluster: Any) -> set[str]:
    """Return the version that answers those who know nothing of canaries, if any does."""
    for _ in range(cluster.kserve.lag + 1):
        cluster.answer("GET", "/apis/x/v1/namespaces/models/inferenceservices/demo-night", b"")
    knative = cluster.objects[ISVC]["status"].get("deploymentMode") == "Knative"
    everybody = "demo-night-predictor" if knative else "demo-night-champion"
    numbers = {digest: version for version, digest in cluster.versions.items()}
    return {numbers[d] for service, d in cluster._served().items() if service == everybody}


def state(cluster: Any) -> Object:
    document: Object = json.loads(cluster.objects[RECORD]["data"]["state"])
    return document
