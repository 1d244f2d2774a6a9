"""Who reaches whom: asked of the policies offline, and of a cluster that enforces them."""

from tests.kubernetes.network import Peer, Pod

Row = tuple[Peer, Peer, int, bool]
"""Who opens a connection to whom, at which port, and whether it is let through."""

S3, METADATA, IN_VPC, ELSEWHERE = "52.219.0.1", "169.254.169.254", "10.0.7.7", "192.168.1.1"
KUBERNETES, BEHIND_KUBERNETES = "10.96.0.1", "10.0.3.4"
"""The Service of the API server, and the server itself."""
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

EVERYWHERE: list[Row] = [
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
    (MLFLOW, NODE_LOCAL_DNS, 53, True),
    (MLFLOW, S3, 443, True),
    (MLFLOW, METADATA, 80, False),
    (MLFLOW, STAGE, 8080, False),
    (WORKER, MODEL, 8080, True),
    (WORKER, GATEWAY, 80, True),
    (GATEWAY, MODEL, 8012, True),
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
    (SCHEDULER, BEHIND_KUBERNETES, 6443, True),
    (STAGE, BEHIND_KUBERNETES, 6443, False),
    # runs, whose results each operator reads, and logs
    (WORKER, S3, 443, True),
    (TRIGGERER, S3, 443, True),
    (WORKER, S3, 80, False),
    (WORKER, METADATA, 80, False),
    (WORKER, GIT_SERVER, 22, False),
    (WORKER, NODE_LOCAL_DNS, 53, True),
    (TO_AIRFLOW, SCHEDULER, 8080, False),
    (STRANGER, API_SERVER, 8080, False),
    # a door has a label of its own; a model server answers requests and metrics on one port
    *(
        (source, *door, door in opened)
        for source, opened in (
            (GATEWAY, [(MODEL, 8080)]),
            (TO_MLFLOW, [(MLFLOW, 5000)]),
            (TO_AIRFLOW, [(API_SERVER, 8080)]),
            (PROMETHEUS, [(MODEL, 8080), (MODEL, 9091)]),
            (BEFORE, []),
        )
        for door in ((MODEL, 8080), (MLFLOW, 5000), (API_SERVER, 8080), (MODEL, 9091))
    ),
]
IN_KIND: list[Row] = [
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
IN_EKS: list[Row] = [
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
WITH_GIT_SSH: list[Row] = [
    *(
        row
        for pod in (DAG_PROCESSOR, TRIGGERER, WORKER)
        for row in (
            (pod, GIT_SERVER, 22, True),
            (pod, IN_VPC, 22, False),
            (pod, METADATA, 22, False),
        )
    ),
    *((pod, GIT_SERVER, 22, False) for pod in (SCHEDULER, API_SERVER, STAGE, MODEL, MLFLOW)),
]
