"""Who reaches whom."""

import pytest

from tasks.spec import Pipeline
from tests.kubernetes.kustomization import ROOT, Object, pod_spec, render
from tests.kubernetes.network import Peer, Pod, reaches
from trusted_retraining.pods import stage_labels

S3, METADATA, IN_VPC, ELSEWHERE = "52.219.0.1", "169.254.169.254", "10.0.7.7", "192.168.1.1"
KUBERNETES = "10.96.0.1"
POD_IDENTITY, POD_IDENTITY_6 = "169.254.170.23", "fd00:ec2::23"
METADATA_6, NODE_LOCAL_DNS = "fd00:ec2::254", "169.254.20.10"
GIT_SERVER = "140.82.121.4"


def airflow(component: str) -> Pod:
    """Return a pod of Airflow with the labels that its chart gives."""
    return Pod("airflow", {"tier": "airflow", "component": component, "release": "airflow"})


STAGE = Pod("trusted-retraining", {"app.kubernetes.io/name": "stage"})
MLFLOW = Pod("mlflow", {"app.kubernetes.io/name": "mlflow"})
MODEL = Pod("trusted-retraining-serving", {"app": "demo"})
DATABASE = Pod("trusted-retraining-data", {"app.kubernetes.io/name": "postgresql"})
STORE = Pod("trusted-retraining-data", {"app.kubernetes.io/name": "object-store"})
GATEWAY = Pod("istio-system", doors=("reach-models",))
PROMETHEUS = Pod("monitoring", doors=("read-metrics",))
TO_MLFLOW, TO_AIRFLOW = Pod("sso", doors=("reach-mlflow",)), Pod("nginx", doors=("reach-airflow",))
# the one label of earlier releases
BEFORE = Pod("traefik", doors=("ingress",))
KNATIVE = Pod("knative-serving")
STRANGER = Pod("default")
NAMES = Pod("kube-system", {"k8s-app": "kube-dns"})
WORKER, SCHEDULER = airflow("worker"), airflow("scheduler")
TRIGGERER, API_SERVER = airflow("triggerer"), airflow("api-server")
DAG_PROCESSOR = airflow("dag-processor")

EVERYWHERE: list[tuple[Peer, Peer, int, bool]] = [
    (STAGE, NAMES, 53, True),
    (STAGE, NODE_LOCAL_DNS, 53, True),
    (STAGE, NODE_LOCAL_DNS, 80, False),
    (STAGE, MLFLOW, 5000, True),
    (STAGE, S3, 443, True),
    (STAGE, S3, 80, False),
    # the credentials of the node
    (STAGE, METADATA, 80, False),
    (STAGE, METADATA, 443, False),
    (STAGE, ELSEWHERE, 443, False),
    (STAGE, KUBERNETES, 443, False),
    (STAGE, MODEL, 8080, False),
    (STAGE, API_SERVER, 8080, False),
    (STAGE, STAGE, 8080, False),
    (STRANGER, STAGE, 8080, False),
    (WORKER, STAGE, 8080, False),
    (WORKER, MLFLOW, 5000, True),
    (SCHEDULER, MLFLOW, 5000, False),
    (STRANGER, MLFLOW, 5000, False),
    (TO_MLFLOW, MLFLOW, 5000, True),
    (MLFLOW, NODE_LOCAL_DNS, 53, True),
    (MLFLOW, S3, 443, True),
    (MLFLOW, METADATA, 80, False),
    (MLFLOW, STAGE, 8080, False),
    (WORKER, MODEL, 8080, True),
    (WORKER, GATEWAY, 80, True),
    (GATEWAY, MODEL, 8080, True),
    (GATEWAY, MODEL, 8012, True),
    (GATEWAY, MODEL, 9091, False),
    (PROMETHEUS, MODEL, 8080, True),
    (PROMETHEUS, MODEL, 9091, True),
    (PROMETHEUS, MODEL, 8012, False),
    (WORKER, PROMETHEUS, 9090, True),
    (WORKER, PROMETHEUS, 443, True),
    (WORKER, GATEWAY, 9090, False),
    (KNATIVE, MODEL, 8012, True),
    (KNATIVE, MODEL, 9090, True),
    (MODEL, NODE_LOCAL_DNS, 53, True),
    (KNATIVE, MODEL, 8080, False),
    (STRANGER, MODEL, 8080, False),
    (MODEL, S3, 443, True),
    (MODEL, MLFLOW, 5000, False),
    (MODEL, METADATA, 80, False),
    (WORKER, API_SERVER, 8080, True),
    (TRIGGERER, KUBERNETES, 443, True),
    (SCHEDULER, KUBERNETES, 6443, True),
    (WORKER, METADATA, 80, False),
    (WORKER, GIT_SERVER, 22, False),
    (WORKER, NODE_LOCAL_DNS, 53, True),
    (TO_AIRFLOW, API_SERVER, 8080, True),
    (TO_AIRFLOW, SCHEDULER, 8080, False),
    (STRANGER, API_SERVER, 8080, False),
]
IN_KIND: list[tuple[Peer, Peer, int, bool]] = [
    (STAGE, STORE, 7070, True),
    (STAGE, DATABASE, 5432, False),
    (MODEL, STORE, 7070, True),
    (MODEL, DATABASE, 5432, False),
    (MLFLOW, STORE, 7070, True),
    (MLFLOW, DATABASE, 5432, True),
    (WORKER, STORE, 7070, True),
    (SCHEDULER, DATABASE, 5432, True),
    (STRANGER, STORE, 7070, False),
    (STRANGER, DATABASE, 5432, False),
    (DATABASE, S3, 443, False),
    (STORE, S3, 443, False),
    (STAGE, IN_VPC, 443, False),
]
IN_EKS: list[tuple[Peer, Peer, int, bool]] = [
    (MLFLOW, IN_VPC, 5432, True),
    (SCHEDULER, IN_VPC, 5432, True),
    (STAGE, IN_VPC, 5432, False),
    # endpoints of S3 and STS in the VPC
    (STAGE, IN_VPC, 443, True),
    (MODEL, IN_VPC, 443, True),
    (MLFLOW, IN_VPC, 443, True),
    *(
        (pod, address, port, open_)
        for pod in (STAGE, MODEL, MLFLOW, WORKER, SCHEDULER, TRIGGERER, API_SERVER)
        for address, port, open_ in (
            (POD_IDENTITY, 80, True),
            (POD_IDENTITY_6, 80, True),
            (POD_IDENTITY, 443, False),
            (METADATA, 80, False),
            (METADATA_6, 80, False),
        )
    ),
]


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


def test_a_door_has_a_label_of_its_own(overlay: list[Object]) -> None:
    doors = [(MODEL, 8080), (MLFLOW, 5000), (API_SERVER, 8080), (MODEL, 9091)]

    def opened(source: Pod) -> list[tuple[Pod, int]]:
        return [door for door in doors if reaches(overlay, source, *door)]

    assert opened(GATEWAY) == [(MODEL, 8080)]
    assert opened(TO_MLFLOW) == [(MLFLOW, 5000)]
    assert opened(TO_AIRFLOW) == [(API_SERVER, 8080)]
    # a model server answers requests and metrics on one port
    assert opened(PROMETHEUS) == [(MODEL, 8080), (MODEL, 9091)]
    assert opened(BEFORE) == []


def test_git_over_ssh_has_a_way_out_where_it_is_used(overlay: list[Object]) -> None:
    objects = overlay + render(ROOT / "git-ssh")
    for pod in (DAG_PROCESSOR, TRIGGERER, WORKER):
        assert reaches(objects, pod, GIT_SERVER, 22)
        assert not reaches(objects, pod, IN_VPC, 22) and not reaches(objects, pod, METADATA, 22)
    for other in (SCHEDULER, API_SERVER, STAGE, MODEL, MLFLOW):
        assert not reaches(objects, other, GIT_SERVER, 22)


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
