"""The cluster files on a real API server: applied, and what they allow and refuse there.

Namespaces and priority classes get a name of the test's own, so that it disturbs nobody and finds
nothing of an earlier one. Kinds that the server is too old for are left out, and told.
"""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import pytest

from tests.cluster import own_names
from tests.cluster.images import TASKS
from tests.cluster.kubectl import images_on_nodes
from tests.cluster.own_names import own_objects
from tests.kubernetes.kustomization import ROOT, Object, identity
from tests.kubernetes.test_rights import RIGHTS

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

SUFFIX = f"-test-{uuid.uuid4().hex[:6]}"

GROUPS = {
    "pods": "", "pods/log": "", "pods/exec": "", "pods/attach": "", "pods/portforward": "",
    "events": "", "secrets": "", "configmaps": "", "services": "", "serviceaccounts": "",
    "serviceaccounts/token": "", "persistentvolumeclaims": "", "deployments": "apps",
    "statefulsets": "apps", "jobs": "batch", "poddisruptionbudgets": "policy",
    "horizontalpodautoscalers": "autoscaling", "inferenceservices": "serving.kserve.io",
    "networkpolicies": "networking.k8s.io", "roles": "rbac.authorization.k8s.io",
    "rolebindings": "rbac.authorization.k8s.io",
}  # fmt: skip
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
NAMESPACES = ("airflow", "trusted-retraining", "trusted-retraining-serving", "mlflow")
ACCOUNTS = (
    "airflow/airflow-scheduler", "airflow/airflow-worker", "airflow/airflow-triggerer",
    "airflow/airflow-api-server", "airflow/airflow", "trusted-retraining/trusted-retraining-stage",
    "trusted-retraining/default", "trusted-retraining-serving/trusted-retraining-serving",
    "mlflow/mlflow",
)  # fmt: skip


def own(name: str) -> str:
    """Return the test's name of a namespace or class."""
    return name + SUFFIX


def kubectl(*words: str, given: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["kubectl", *words], input=given, capture_output=True, text=True)


def known_kinds() -> set[tuple[str, str]]:
    """Return the API versions and kinds that the server knows."""
    versions = kubectl("api-versions").stdout.split()
    found = set()
    for version in versions:
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        listed = kubectl("get", "--raw", path)
        # a kind of another test's may be gone by now
        if listed.returncode == 0:
            found |= {(version, each["kind"]) for each in json.loads(listed.stdout)["resources"]}
    return found


@pytest.fixture(scope="module")
def applied() -> Iterator[list[Object]]:
    """The objects of the overlay ``kind``, applied on the server's side but for its workloads."""
    objects = own_objects(ROOT / "overlays/kind", SUFFIX)
    known = known_kinds()
    unknown = {(o["apiVersion"], o["kind"]) for o in objects} - known
    if unknown:
        print(f"left out, unknown to this server: {sorted(unknown)}")  # noqa: T201
    objects = [one for one in objects if (one["apiVersion"], one["kind"]) in known]
    with own_names.applied(objects):
        yield objects


def test_every_object_is_there_as_it_was_written(applied: list[Object]) -> None:
    kinds = {"Namespace", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "ResourceQuota",
             "LimitRange", "PriorityClass", "Deployment", "StatefulSet", "Service"}  # fmt: skip
    assert kinds <= {one["kind"] for one in applied}
    for one in applied:
        version, kind, namespace, name = identity(one)
        plural = f"{kind}.{version.partition('/')[0]}" if "/" in version else kind
        words = ["get", plural, name, "-o", "json"]
        found = kubectl(*words, *(("-n", namespace) if namespace else ()))
        assert found.returncode == 0, found.stderr
        lost = _missing(one, json.loads(found.stdout))
        assert lost == [], (identity(one), lost)


def test_accounts_may_do_what_the_table_says(applied: list[Object]) -> None:
    from kubernetes import client, config

    config.load_kube_config()
    reviews = client.AuthorizationV1Api()

    def allowed(question: tuple[str, str, str, str]) -> bool:
        account, namespace, resource, verb = question
        of, _, name = account.partition("/")
        kind, _, part = resource.partition("/")
        review = client.V1SubjectAccessReview(
            spec=client.V1SubjectAccessReviewSpec(
                user=f"system:serviceaccount:{own(of)}:{name}",
                groups=["system:serviceaccounts", f"system:serviceaccounts:{own(of)}",
                        "system:authenticated"],
                resource_attributes=client.V1ResourceAttributes(
                    namespace=own(namespace), verb=verb, group=GROUPS[resource], resource=kind,
                    subresource=part or None,
                ),
            )
        )  # fmt: skip
        return bool(reviews.create_subject_access_review(review).status.allowed)

    questions = list(product(ACCOUNTS, NAMESPACES, GROUPS, VERBS))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(allowed, questions))
    wrong = [
        (question, answer)
        for question, answer in zip(questions, answers, strict=True)
        if answer != (question[3] in RIGHTS.get(question[:2], {}).get(question[2], set()))
    ]
    assert wrong == []
    assert sum(answers) == sum(len(v) for rights in RIGHTS.values() for v in rights.values())


def test_a_stage_has_the_defaults_and_no_token(applied: list[Object]) -> None:
    account = f"system:serviceaccount:{own('airflow')}:airflow-worker"
    made = _create_pod("plain", account=account)
    assert made.returncode == 0, made.stderr
    pod = json.loads(made.stdout)
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["requests"]["memory"] == "2Gi"
    assert container["resources"]["limits"] == {"memory": "8Gi", "ephemeral-storage": "50Gi"}
    assert not [m for m in container.get("volumeMounts", []) if "serviceaccount" in m["mountPath"]]
    assert pod["spec"]["priority"] == -1
    assert pod["spec"]["preemptionPolicy"] == "Never"
    shell = kubectl("-n", own("trusted-retraining"), "--as", account, "exec", "plain", "--", "id")
    assert "cannot create resource" in shell.stderr and "pods/exec" in shell.stderr


def test_nobody_else_starts_pods_among_the_stages(applied: list[Object]) -> None:
    for account in ("airflow-scheduler", "airflow-triggerer", "airflow"):
        refused = _create_pod("x", account=f"system:serviceaccount:{own('airflow')}:{account}")
        assert "cannot create resource" in refused.stderr


def test_the_quota_bounds_gpus_and_forbids_services(applied: list[Object]) -> None:
    account = f"system:serviceaccount:{own('airflow')}:airflow-worker"
    for number in range(4):
        made = _create_pod(f"gpu-{number}", account=account, gpus=1)
        assert made.returncode == 0, made.stderr
    fifth = _create_pod("gpu-4", account=account, gpus=1)
    assert "exceeded quota: stages" in fifth.stderr and "nvidia.com/gpu" in fifth.stderr
    service = kubectl(
        "-n", own("trusted-retraining"), "create", "service", "clusterip", "s", "--tcp=80"
    )
    assert "exceeded quota: stages" in service.stderr


@pytest.fixture(scope="module")
def policies(applied: list[Object]) -> list[str]:
    """The names of the admission policies, once the server has looked at them."""
    names = [
        one["metadata"]["name"] for one in applied if one["kind"] == "ValidatingAdmissionPolicy"
    ]
    if not names:
        pytest.skip("this server is too old for admission policies: Kubernetes 1.30 has them")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = [_read("validatingadmissionpolicy", name) for name in names]
        looked_at = all(
            one.get("status", {}).get("observedGeneration") == one["metadata"]["generation"]
            for one in found
        )
        if (
            looked_at
            and "service account" in _create_pod("probe", account=_WORKER, spec=_OTHER).stderr
        ):
            return names
        time.sleep(1)
    raise AssertionError(found)


def test_the_type_checker_finds_nothing_in_the_policies(policies: list[str]) -> None:
    for name in policies:
        status = _read("validatingadmissionpolicy", name)["status"]
        assert status["typeChecking"].get("expressionWarnings", []) == [], name


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"serviceAccountName": "default"}, "a stage's service account is not listed"),
        ({"automountServiceAccountToken": True}, "no token"),
        ({"volumes": [{"name": "a", "secret": {"secretName": "of-others"}}]}, "secret in volumes"),
    ],
)
def test_airflow_starts_no_other_pods_than_stages(
    policies: list[str], more: Object, reason: str
) -> None:
    refused = _create_pod("other", account=_WORKER, spec=more)
    assert "ValidatingAdmissionPolicy" in refused.stderr and reason in refused.stderr
    # an administrator may
    made = _create_pod(f"look-{uuid.uuid4().hex[:6]}", account="admin", spec=more)
    assert made.returncode == 0, made.stderr


def test_airflow_asks_for_no_other_devices(policies: list[str]) -> None:
    refused = _create_pod("slice", account=_WORKER, gpus=1, gpu="nvidia.com/mig-1g.10gb")
    assert "a resource is not listed" in refused.stderr


def test_airflow_touches_no_objects_of_other_teams(policies: list[str]) -> None:
    namespace = own("trusted-retraining-serving")

    def service(name: str, *, by: str, manager: str) -> "subprocess.CompletedProcess[str]":
        one = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace,
                         "labels": {"app.kubernetes.io/managed-by": manager}},
            "spec": {"ports": [{"port": 80, "protocol": "TCP"}]},
        }  # fmt: skip
        # as the deploy task applies
        return kubectl("apply", "--server-side", "--force-conflicts", "--as", by,
                       *(("--as-group", "system:masters") if by == "admin" else ()),
                       "-f", "-", given=json.dumps(one))  # fmt: skip

    ours = "trusted-retraining"
    assert service("theirs", by="admin", manager="Helm").returncode == 0
    taken = service("theirs", by=_WORKER, manager=ours)
    assert "this object was made by somebody else" in taken.stderr
    assert "what Airflow applies has the label" in service("x", by=_WORKER, manager="Helm").stderr
    for _ in range(2):
        made = service("ours", by=_WORKER, manager=ours)
        assert made.returncode == 0, made.stderr
    assert "this object was made" in service("theirs", by=_TRIGGERER, manager=ours).stderr


@pytest.mark.timeout(900)
def test_mlflow_starts_as_it_is_deployed(applied: list[Object]) -> None:
    if TASKS not in images_on_nodes():
        pytest.skip(f"no node has {TASKS}, from which MLflow's server comes")
    namespace = own("mlflow")
    # the database's own tests are elsewhere; here it is a file of the pod
    secret = kubectl("-n", namespace, "create", "secret", "generic", "mlflow-database",
                     "--from-literal=uri=sqlite:////tmp/mlflow.db")  # fmt: skip
    assert secret.returncode == 0, secret.stderr
    change = kubectl(
        "-n", namespace, "set", "image", "deployment/mlflow", f"upgrade-database={TASKS}",
        f"mlflow={TASKS}",
    )  # fmt: skip
    assert change.returncode == 0, change.stderr
    kubectl("-n", namespace, "scale", "deployment/mlflow", "--replicas=1")
    done = kubectl("-n", namespace, "rollout", "status", "deployment/mlflow", "--timeout=800s")
    told = kubectl("-n", namespace, "describe", "pods").stdout[-3000:]
    assert done.returncode == 0, done.stderr + told
    proxy = f"/api/v1/namespaces/{namespace}/services/mlflow:http/proxy"
    health = kubectl("get", "--raw", f"{proxy}/health")
    assert health.stdout == "OK", health.stderr


_WORKER = f"system:serviceaccount:{own('airflow')}:airflow-worker"
_TRIGGERER = f"system:serviceaccount:{own('airflow')}:airflow-triggerer"
_OTHER: Object = {"serviceAccountName": "default"}


def _read(kind: str, name: str) -> Object:
    found: Object = json.loads(kubectl("get", kind, name, "-o", "json").stdout)
    return found


def _create_pod(
    name: str,
    *,
    account: str,
    gpus: int = 0,
    gpu: str = "nvidia.com/gpu",
    spec: Object | None = None,
) -> "subprocess.CompletedProcess[str]":
    container = {
        "name": "stage",
        "image": "none",
        "resources": {"limits": {gpu: str(gpus)}} if gpus else {},
        # the namespace enforces `restricted`
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": own("trusted-retraining")},
        "spec": {
            "serviceAccountName": "trusted-retraining-stage",
            "priorityClassName": own("trusted-retraining-stage"),
            # on no node at all: only admission is asked
            "nodeSelector": {"trusted-retraining/test": "nowhere"},
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            **(spec or {}),
        },
    }
    groups = ("--as-group", "system:masters") if account == "admin" else ()
    return kubectl(
        "create", "--as", account, *groups, "-o", "json", "-f", "-", given=json.dumps(pod)
    )


def _missing(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Return where what was written is not found; the server may add, and spells quantities."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return [path]
        return [
            lost for key, value in wanted.items()
            for lost in _missing(value, found.get(key), f"{path}.{key}")
        ]  # fmt: skip
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) < len(wanted):
            return [path]
        if path == ".secrets":  # this server adds the account's token
            return [] if all(entry in found for entry in wanted) else [path]
        return [
            lost
            for number, pair in enumerate(zip(wanted, found, strict=False))
            for lost in _missing(*pair, f"{path}[{number}]")
        ]
    empty = wanted in (None, False, 0, "") and found is None
    return [] if empty or wanted == found else [f"{path}: {wanted!r} became {found!r}"]
