"""The cluster files under names of a test's own, so that it meets nobody's objects."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.kubectl import kubectl
from tests.kubernetes.kustomization import Object, render

_NAMES = ("namespace", "priorityClassName", "kubernetes.io/metadata.name")
_ALWAYS = ("policyName", "clusterQueue", "flavors.name")


def own_objects(folder: Path, suffix: str) -> list[Object]:
    """Return what a kustomization applies, with names of the test's own, and no pods.

    Without their images and secrets the workloads would only be pulled for in vain.
    """
    rendered = render(folder)
    classes = [one for one in rendered if one["kind"] in ("Namespace", "PriorityClass")]
    names = frozenset(one["metadata"]["name"] for one in classes)
    return [_asleep(renamed(one, names, suffix)) for one in rendered if one["kind"] != "Job"]


@contextmanager
def applied(objects: list[Object]) -> Iterator[None]:
    """Apply objects on the server's side, twice, and remove them in the end."""
    given = {"apiVersion": "v1", "kind": "List", "items": objects}
    try:
        for _ in range(2):  # the second time finds everything as it is
            kubectl("apply", "--server-side", "--field-manager=test", "-f", "-", given=given)
        yield
    finally:
        cluster_wide = [
            f"{one['kind'].lower()}/{one['metadata']['name']}"
            for one in objects
            if "namespace" not in one["metadata"]
        ]
        kubectl("delete", "--wait=false", "--ignore-not-found", *cluster_wide)


def renamed(one: Object, names: frozenset[str], suffix: str) -> Object:
    """Return an object with the suffix at every name of a namespace, a class, a policy or a queue.

    Parameters
    ----------
    one : dict
        The object.
    names : frozenset of str
        Namespaces and classes that are the test's own; others keep their names.
    suffix : str
        What the test's own names end with.
    """

    def walk(value: Any, key: str = "") -> Any:
        if key in _ALWAYS:
            return value + suffix
        if key == "expression":
            # the groups of service accounts name a namespace
            return re.sub(r"(system:serviceaccounts:\w+)", rf"\g<1>{suffix}", value)
        if isinstance(value, dict):
            return {k: walk(v, f"{key}.{k}" if key == "flavors" else k) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(entry, key) for entry in value]
        return value + suffix if key in _NAMES and value in names else value

    new: Object = walk(one)
    if "namespace" not in one["metadata"]:
        new["metadata"]["name"] = one["metadata"]["name"] + suffix
    return new


def _asleep(one: Object) -> Object:
    if one["kind"] in ("Deployment", "StatefulSet"):
        return one | {"spec": one["spec"] | {"replicas": 0}}
    return one
