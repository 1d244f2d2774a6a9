"""The cluster files under names of a test's own, so that it meets nobody's objects."""

import re
from typing import Any

from tests.kubernetes.kustomization import Object

_NAMES = ("namespace", "priorityClassName", "kubernetes.io/metadata.name")


def renamed(one: Object, names: frozenset[str], suffix: str) -> Object:
    """Return an object with the suffix at every name of a namespace, a class or a policy.

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
        if key == "policyName":
            return value + suffix
        if key == "expression":
            # the groups of service accounts name a namespace
            return re.sub(r"(system:serviceaccounts:\w+)", rf"\g<1>{suffix}", value)
        if isinstance(value, dict):
            return {k: walk(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(entry, key) for entry in value]
        return value + suffix if key in _NAMES and value in names else value

    new: Object = walk(one)
    if "namespace" not in one["metadata"]:
        new["metadata"]["name"] = one["metadata"]["name"] + suffix
    return new
