"""The InferenceService of a night, and what it tells those who look at it."""

import json
from collections.abc import Callable
from typing import Any

from tasks.contract import RunDirectory
from trusted_retraining.serving.plan import STATE

Object = dict[str, Any]
Deploy = Callable[..., Object]
Night = Callable[..., RunDirectory]
ISVC = ("inferenceservices", "demo-night")
MODES = ["knative", "standard"]


def served(cluster: Any) -> set[str]:
    """Return the versions that answer those who know nothing of canaries."""
    found = cluster.objects[ISVC]
    for _ in range(cluster.kserve.lag + 1):
        cluster.answer("GET", "/apis/x/v1/namespaces/models/inferenceservices/demo-night", b"")
    digests = cluster.kserve.serving(found)
    if found["status"].get("deploymentMode") == "Knative":
        digests = {k: v for k, v in digests.items() if not k.startswith("latest-")}
    numbers = {digest: version for version, digest in cluster.versions.items()}
    return {numbers[digest] for digest in digests.values()}


def state(cluster: Any) -> Object:
    document: Object = json.loads(cluster.objects[ISVC]["metadata"]["annotations"][STATE])
    return document
