"""The pod of a stage, as the object that Kubernetes reads.

Admitted under the ``restricted`` Pod Security Standard: not root, no privileges, a root file
system that is read-only. What libraries write goes to volumes that end with the pod.
Credentials are referred to, never held.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from tasks.contract import RELEASE_VARIABLE, release
from tasks.spec import Pipeline, Requests, Toleration
from trusted_retraining.cluster_settings import ClusterSettings
from trusted_retraining.settings import Settings

CONTAINER = "stage"
"""Name of the container in which the stage runs."""

PIPELINE_LABEL = "trusted-retraining/pipeline"
RUN_LABEL = "trusted-retraining/run"
STAGE_LABEL = "trusted-retraining/stage"
COST_LABEL = "trusted-retraining/cost-center"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

SCRATCH = "/scratch"
HOME = "/home/stage"
_TOPOLOGIES = {"node": "kubernetes.io/hostname", "zone": "topology.kubernetes.io/zone"}

Object = dict[str, Any]
"""A Kubernetes object, or a part of one, as in its manifest."""


def stage_pod(
    *,
    stage: str,
    pipeline: Pipeline,
    settings: Settings,
    run_id: str,
    arguments: Sequence[str],
) -> Object:
    """Return the pod that runs a stage.

    Parameters
    ----------
    stage : str
        Name of the stage.
    pipeline : Pipeline
        The night's pipeline, overrides applied: its ``resources`` decide.
    settings : Settings
        Image, namespace, addresses, and what ``resources`` leaves open.
    run_id : str
        Airflow's run id.
    arguments : sequence of str
        What follows ``python -m tasks``.

    Returns
    -------
    dict
        A ``v1`` Pod.
    """
    cluster, resources = settings.cluster, pipeline.resources
    requests = resources.requests(stage)
    own = resources.stage(stage)
    spot = resources.spot if own.spot is None else own.spot
    priority = own.priority_class or resources.priority_class or cluster.priority_class
    spec: Object = {
        "restartPolicy": "Never",
        "serviceAccountName": cluster.stages_service_accounts.get(stage, cluster.service_account),
        "automountServiceAccountToken": False,
        # otherwise a service called mlflow becomes MLFLOW_PORT, which MLflow reads
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": cluster.termination_grace_seconds,
        "activeDeadlineSeconds": 60 * pipeline.stage_timeout_minutes,
        "securityContext": pod_security(cluster.run_as_user),
        "nodeSelector": _first(own.node_selector, resources.node_selector, cluster.node_selector)
        | (cluster.spot_node_selector if spot else {}),
        "tolerations": [
            toleration.model_dump(exclude_none=True)
            for toleration in [
                *_first(own.tolerations, resources.tolerations, cluster.tolerations),
                *(cluster.spot_tolerations if spot else ()),
                *_DEAD_NODE,
            ]
        ],
        "containers": [
            {
                "name": CONTAINER,
                "image": settings.tasks_image,
                "imagePullPolicy": cluster.image_pull_policy,
                "command": ["python", "-m", "tasks"],
                "args": [literal(argument) for argument in arguments],
                "env": [{"name": n, "value": v} for n, v in stage_variables(settings).items()],
                "envFrom": secret_variables(cluster),
                "resources": container_resources(requests, gpu_resource=cluster.gpu_resource),
                "securityContext": container_security(),
                # the last lines of a stage that could not write its failure record
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": _mounts(),
            }
        ],
        "volumes": _volumes(requests),
    }
    if priority:
        spec["priorityClassName"] = priority
    if cluster.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.image_pull_secrets]
    if resources.spread != "none":
        spec["topologySpreadConstraints"] = [_spread(_TOPOLOGIES[resources.spread])]
    labels = stage_labels(stage=stage, pipeline=pipeline, run_id=run_id)
    queue = resources.queue or cluster.kueue_queue
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": cluster.namespace,
            "labels": labels | ({QUEUE_LABEL: label_value(queue)} if queue else {}),
            "annotations": {
                # an autoscaler must not move a stage in the middle of its work
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
            },
        },
        "spec": spec,
    }


def stage_labels(*, stage: str, pipeline: Pipeline, run_id: str) -> dict[str, str]:
    """Return the labels by which a stage's pod is found and its cost is told.

    Parameters
    ----------
    stage, run_id : str
        Name of the stage and Airflow's run id.
    pipeline : Pipeline
        The night's pipeline.
    """
    labels = {
        "app.kubernetes.io/name": "stage",
        "app.kubernetes.io/part-of": "trusted-retraining",
        "app.kubernetes.io/managed-by": "airflow",
        PIPELINE_LABEL: label_value(pipeline.name),
        RUN_LABEL: label_value(run_id),
        STAGE_LABEL: label_value(stage),
    }
    cost = pipeline.resources.cost_center
    return labels | ({COST_LABEL: label_value(cost)} if cost else {})


def label_value(text: str) -> str:
    """Return a valid label value for a text: itself, or what is left of it and a digest.

    Parameters
    ----------
    text : str
        Such as ``scheduled__2026-07-04T02:00:00+00:00``.

    Returns
    -------
    str
        At most 63 characters; different texts give different values.
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]", "-", text)
    trimmed = safe.strip("_.-")
    if trimmed == text and len(text) <= 63:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{trimmed[:54].rstrip('_.-')}-{digest}".lstrip("-")


def literal(text: str) -> str:
    """Return an argument that reaches the stage as it is.

    Kubernetes puts variables in the place of ``$(NAME)``, those from secrets too: a description
    that says ``$(AWS_SECRET_ACCESS_KEY)`` would be logged with the key in it.

    Parameters
    ----------
    text : str
        Whatever a pipeline file or the trigger form holds.
    """
    return text.replace("$", "$$")


def pod_security(user: int) -> Object:
    """Return the security context of a pod for the ``restricted`` standard.

    Parameters
    ----------
    user : int
        User and group id of its containers and owner of its volumes.
    """
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Object:
    """Return the security context of a container for the ``restricted`` standard."""
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }


def container_resources(requests: Requests, *, gpu_resource: str) -> Object:
    """Return requests and limits of a container.

    Parameters
    ----------
    requests : Requests
        What is asked for. CPU gets no limit: it would only slow down a stage on an idle node.
    gpu_resource : str
        Resource name of a GPU; empty where there are none.
    """
    fixed = {"memory": requests.memory, "ephemeral-storage": requests.ephemeral_storage}
    if requests.gpu and gpu_resource:
        fixed[gpu_resource] = str(requests.gpu)
    return {"requests": {"cpu": requests.cpu, **fixed}, "limits": fixed}


def stage_variables(settings: Settings) -> dict[str, str]:
    """Return the variables of a stage in a pod; none of them is a secret.

    Parameters
    ----------
    settings : Settings
        For the addresses.
    """
    artifacts = settings.mlflow_artifacts
    variables = {
        "HOME": HOME,
        # there is no such user in the image's /etc/passwd if run_as_user was changed
        "USER": "stage",
        "LOGNAME": "stage",
        "TMPDIR": "/tmp",  # noqa: S108
        "XDG_CACHE_HOME": f"{HOME}/.cache",
        "MPLCONFIGDIR": f"{HOME}/.config/matplotlib",
        "NUMBA_CACHE_DIR": f"{HOME}/.cache/numba",
        "CUDA_CACHE_PATH": f"{HOME}/.cache/cuda",
        "KERAS_HOME": f"{HOME}/.keras",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TRUSTED_RETRAINING_SCRATCH": SCRATCH,
        "TRUSTED_RETRAINING_STATE": f"{SCRATCH}/state",
        # with a server its own place for artifacts; the default is a folder of Airflow's machine
        "TRUSTED_RETRAINING_MLFLOW_ARTIFACTS": artifacts if "://" in artifacts else "",
        # left out, anything would be allowed, as it is to a person who runs a stage by hand
        "TRUSTED_RETRAINING_ALLOWED_ADDRESSES": ",".join(settings.allowed_addresses) or "none",
        "TRUSTED_RETRAINING_DEPLOY_CHANGED_RULES": str(settings.deploy_changed_rules).lower(),
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
        RELEASE_VARIABLE: release(),
    }
    return {name: value for name, value in variables.items() if value}


def secret_variables(cluster: ClusterSettings) -> list[Object]:
    """Return the references to secrets whose keys become variables.

    Parameters
    ----------
    cluster : ClusterSettings
        For the names of the secrets.
    """
    names = dict.fromkeys(name for name in (cluster.storage_secret, cluster.mlflow_secret) if name)
    return [{"secretRef": {"name": name}} for name in names]


def _volumes(requests: Requests) -> list[Object]:
    disk = {"sizeLimit": requests.ephemeral_storage}
    return [
        {"name": "scratch", "emptyDir": disk},
        {"name": "tmp", "emptyDir": disk},
        {"name": "home", "emptyDir": disk},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": requests.shared_memory}},
    ]


def _mounts() -> list[Object]:
    return [
        {"name": "scratch", "mountPath": SCRATCH},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "home", "mountPath": HOME},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]


def _spread(topology: str) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        # a preference: a full node is no reason to wait
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "stage"}},
    }


_DEAD_NODE = tuple(
    Toleration(key=f"node.kubernetes.io/{what}", operator="Exists", effect="NoExecute",
               tolerationSeconds=60)
    for what in ("not-ready", "unreachable")
)  # fmt: skip
"""A pod on a node that is gone is given up after a minute rather than Kubernetes' five."""


def _first(*choices: Any) -> Any:
    return next((choice for choice in choices if choice is not None), None)
