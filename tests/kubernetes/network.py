"""What NetworkPolicies let through, by the rules of their specification."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.kubernetes.kustomization import Object


@dataclass(frozen=True)
class Pod:
    """A pod, as policies see it; ``doors`` are the labels by which its namespace is let in."""

    namespace: str
    labels: dict[str, str] = field(default_factory=dict)
    doors: tuple[str, ...] = ()

    @property
    def namespace_labels(self) -> dict[str, str]:
        """Labels of its namespace; Kubernetes itself sets its name."""
        own = {f"trusted-retraining/{door}": "allowed" for door in self.doors}
        return {"kubernetes.io/metadata.name": self.namespace} | own


Peer = Pod | str
"""A pod, or the address of something that is none."""


def reaches(objects: list[Object], source: Peer, target: Peer, port: int) -> bool:
    """Return whether a TCP connection is let out of its source and into its target.

    Parameters
    ----------
    objects : list of dict
        Among them the policies.
    source, target : Pod or str
        Who opens the connection to whom.
    port : int
        Port of the target's pod.
    """
    policies = [one for one in objects if one["kind"] == "NetworkPolicy"]
    return _passes(policies, source, target, port, "Egress") and _passes(
        policies, target, source, port, "Ingress"
    )


def _passes(policies: Iterable[Object], pod: Peer, other: Peer, port: int, direction: str) -> bool:
    if isinstance(pod, str):
        return True
    about = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == pod.namespace
        and direction in policy["spec"]["policyTypes"]
        and _labelled(policy["spec"]["podSelector"], pod.labels)
    ]
    side, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return not about or any(
        any(entry["port"] == port and entry["protocol"] == "TCP" for entry in rule["ports"])
        if "ports" in rule
        else True
        for spec in about
        for rule in spec.get(side, [])
        if any(_is_meant(peer, other, pod.namespace) for peer in rule[peers])
    )


def _is_meant(peer: dict[str, Any], other: Peer, own_namespace: str) -> bool:
    if "ipBlock" in peer:
        if isinstance(other, Pod):
            return False
        address = ipaddress.ip_address(other)
        block = peer["ipBlock"]
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(hole) for hole in block.get("except", [])
        )
    if isinstance(other, str):
        return False
    if "namespaceSelector" in peer:
        if not _labelled(peer["namespaceSelector"], other.namespace_labels):
            return False
    elif other.namespace != own_namespace:
        return False
    return _labelled(peer.get("podSelector", {}), other.labels)


def _labelled(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}, selector
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions), selector
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )
