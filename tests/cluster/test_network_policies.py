"""Who reaches whom on a cluster that enforces NetworkPolicies, by real connections.

The policies are those of the cluster files, the table is that of `tests/kubernetes`, which asks the
files alone. First every connection is tried without a policy: what is refused afterwards is refused
by the policies.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.cluster.field import Field
from tests.cluster.kubectl import kubectl
from tests.cluster.outside import answering
from tests.ground.layout import KUBECONFIG
from tests.kubernetes.connections import (
    BEFORE,
    BEHIND_KUBERNETES,
    DATABASE,
    EVERYWHERE,
    IN_EKS,
    IN_KIND,
    KUBERNETES,
    MLFLOW,
    MODEL,
    NODE_LOCAL_DNS,
    POD_IDENTITY,
    SCHEDULER,
    STAGE,
    STORE,
    STRANGER,
    WITH_GIT_SSH,
    WORKER,
    Row,
)
from tests.kubernetes.kustomization import ROOT, Object, render
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("cluster"),
]

ON_NODE = (POD_IDENTITY, NODE_LOCAL_DNS)
DNS_NAME = "kubernetes.default.svc"


def on_ground() -> bool:
    return os.environ.get("KUBECONFIG") == str(KUBECONFIG)


def shown(rows: list[Row]) -> list[Row]:
    """Return the rows that can be shown: of addresses only the ground has any, and only IPv4."""
    api = (KUBERNETES, BEHIND_KUBERNETES)
    return [
        row
        for row in rows
        if not isinstance(row[1], str) or row[1] in api or (on_ground() and ":" not in row[1])
    ]


ROWS = [*EVERYWHERE, *IN_KIND, *IN_EKS, *WITH_GIT_SSH]


@pytest.fixture(scope="module")
def real() -> dict[str, str]:
    """The cluster's own addresses for those of the table."""
    service = ("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
    slices = ("get", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes")
    behind = kubectl(*slices, "-o", "jsonpath={.items[0].endpoints[0].addresses[0]}")
    return {KUBERNETES: kubectl(*service), BEHIND_KUBERNETES: behind}


@pytest.fixture(scope="module")
def field(cluster: None, real: dict[str, str]) -> Iterator[Field]:
    """Pods and addresses of the table, each of which reaches each as long as there is no policy."""
    rows = shown(ROWS)
    addresses = {
        (target, f"{target}:{port}")
        for _, target, port, _ in rows
        if isinstance(target, str) and target not in real
    }
    with ExitStack() as stack:
        if addresses:
            on_node = {address for target, address in addresses if target in ON_NODE}
            stack.enter_context(answering(on_node, {a for _, a in addresses} - on_node))
        field = Field(rows)
        stack.enter_context(field.standing())
        check(field, [(*row[:3], True) for row in rows], real)
        assert all(field.resolve([STAGE, STRANGER, DATABASE], DNS_NAME))
        if not enforced(field):
            assert not on_ground(), "the ground's firewall does not enforce NetworkPolicies"
            pytest.skip("this cluster does not enforce NetworkPolicies")
        yield field


def wrong(field: Field, rows: list[Row], real: dict[str, str]) -> list[Row]:
    """Return the rows of which the cluster does not do what they say."""
    found = field.outcomes(rows, real=real)
    return [row for row, open_ in zip(rows, found, strict=True) if row[3] is not open_]


def enforced(field: Field) -> bool:
    """Return whether a policy that lets nobody in keeps somebody out."""
    closed: Object = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": BEFORE.namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
    field.put([closed])
    return wait_for(lambda: not any(field.outcomes([(STRANGER, BEFORE, 80, False)], real={})), 20)


def check(field: Field, rows: list[Row], real: dict[str, str]) -> None:
    """Hold the cluster to a table, once it has had the time to take the policies in."""
    found: list[list[Row]] = []
    wait_for(lambda: found.append(wrong(field, rows, real)) or not found[-1], 20)
    assert found[-1] == []


def test_in_kind(field: Field, real: dict[str, str]) -> None:
    field.put(render(ROOT / "overlays/kind"))
    check(field, shown(EVERYWHERE + IN_KIND), real)
    ours = [STAGE, MLFLOW, MODEL, SCHEDULER, WORKER]
    assert all(field.resolve(ours, DNS_NAME))
    assert not any(field.resolve([DATABASE, STORE], DNS_NAME))


def test_in_eks(field: Field, real: dict[str, str]) -> None:
    field.put(render(ROOT / "overlays/eks"))
    check(field, shown(EVERYWHERE + IN_EKS), real)


def test_git_over_ssh(field: Field, real: dict[str, str]) -> None:
    if not on_ground():
        pytest.skip("addresses outside of a cluster are the ground's: see tests/ground/README.md")
    field.put(render(ROOT / "overlays/eks") + render(ROOT / "git-ssh"))
    check(field, shown(WITH_GIT_SSH), real)
