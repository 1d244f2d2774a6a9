"""Who reaches whom, by the rules of NetworkPolicies; tests/cluster asks a cluster the same."""

import pytest

from tasks.spec import Pipeline
from tests.kubernetes.connections import (
    EVERYWHERE,
    IN_EKS,
    IN_KIND,
    STAGE,
    WITH_GIT_SSH,
    airflow,
)
from tests.kubernetes.kustomization import ROOT, Object, pod_spec, render
from tests.kubernetes.network import Peer, reaches
from trusted_retraining.pods import stage_labels


@pytest.mark.parametrize(("source", "target", "port", "open_"), EVERYWHERE)
def test_everywhere(
    overlay: list[Object], source: Peer, target: Peer, port: int, open_: bool
) -> None:
    assert reaches(overlay, source, target, port) is open_


@pytest.mark.parametrize(("source", "target", "port", "open_"), IN_KIND)
def test_in_kind(kind: list[Object], source: Peer, target: Peer, port: int, open_: bool) -> None:
    assert reaches(kind, source, target, port) is open_


@pytest.mark.parametrize(("source", "target", "port", "open_"), IN_EKS)
def test_in_eks(eks: list[Object], source: Peer, target: Peer, port: int, open_: bool) -> None:
    assert reaches(eks, source, target, port) is open_


@pytest.mark.parametrize(("source", "target", "port", "open_"), WITH_GIT_SSH)
def test_git_over_ssh_has_a_way_out_where_it_is_used(
    overlay: list[Object], source: Peer, target: Peer, port: int, open_: bool
) -> None:
    assert reaches(overlay + render(ROOT / "git-ssh"), source, target, port) is open_


def test_every_namespace_of_ours_is_closed_unless_opened(overlay: list[Object]) -> None:
    closed = {
        one["metadata"]["namespace"]
        for one in overlay
        if one["kind"] == "NetworkPolicy"
        and one["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    assert closed == {one["metadata"]["name"] for one in overlay if one["kind"] == "Namespace"}


def test_policies_select_labels_that_pods_have(overlay: list[Object]) -> None:
    def of(*, namespace: str) -> list[dict[str, str]]:
        return [
            one["spec"]["template"]["metadata"]["labels"]
            for one in overlay
            if pod_spec(one) and one["metadata"]["namespace"] == namespace
        ]

    chart = [airflow(name).labels for name in ("worker", "scheduler", "triggerer", "api-server")]
    for one in (one for one in overlay if one["kind"] == "NetworkPolicy"):
        chosen = one["spec"]["podSelector"].get("matchLabels", {}).items()
        namespace = one["metadata"]["namespace"]
        labels = chart if namespace == "airflow" else of(namespace=namespace)
        assert not chosen or any(chosen <= pod.items() for pod in labels), one["metadata"]


def test_stages_have_the_label_that_the_tests_take(pipelines: dict[str, Pipeline]) -> None:
    labels = stage_labels(stage="train", pipeline=pipelines["demo"], run_id="r")
    assert STAGE.labels.items() <= labels.items()
