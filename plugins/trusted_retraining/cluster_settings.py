"""The settings of a cluster on which stages are pods."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.spec import Toleration

T = TypeVar("T")

Read = Callable[[str, str], str]
"""Returns an option of the section, or the default that it is given."""

NONE = "none"
"""What an option says that is to be left out, as an empty one stands for its default."""

GPU_TOLERATION = '[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]'
SPOT_TOLERATIONS = """[
 {"key": "eks.amazonaws.com/capacityType", "value": "SPOT", "effect": "NoSchedule"},
 {"key": "karpenter.sh/capacity-type", "value": "spot", "effect": "NoSchedule"},
 {"key": "cloud.google.com/gke-spot", "value": "true", "effect": "NoSchedule"},
 {"key": "kubernetes.azure.com/scalesetpriority", "value": "spot", "effect": "NoSchedule"}]"""


class SettingError(ValueError):
    """A setting is wrong; the text names it, its value and what is allowed."""

    def __init__(self, name: str, value: object, wanted: str) -> None:
        super().__init__(
            f"[trusted_retraining] {name}: {value!r} {wanted}; set it in airflow.cfg or "
            f"AIRFLOW__TRUSTED_RETRAINING__{name.upper()}"
        )


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """What this installation has decided about its cluster.

    Attributes
    ----------
    namespace : str
        Where the pods of stages run.
    kubernetes_conn_id : str
        Airflow connection to the cluster.
    in_cluster : bool or None
        Whether Airflow runs in that very cluster; None leaves it to the connection.
    config_file, cluster_context : str or None
        kubeconfig and its context; None leaves it to the connection.
    eks_cluster_name, eks_region : str
        Cluster of the ``eks`` runtime.
    aws_conn_id : str
        Airflow connection to AWS for the ``eks`` runtime.
    service_account : str
        Service account of the stages; they get no token of it.
    stages_service_accounts : dict of str to str
        Stages that have another one, each with its name.
    storage_secret, mlflow_secret : str
        Secrets whose keys become variables of the stages; empty for workload identity, or none.
    image_pull_policy : str
        ``IfNotPresent``, ``Always`` or ``Never``.
    image_pull_secrets : tuple of str
        Secrets with which images are pulled.
    pod_template_file : str
        Pod with anything else that is wanted; what is decided here goes before it.
    run_as_user : int
        User and group id of the containers.
    deferrable : bool
        Whether the triggerer waits for pods, rather than a worker slot for each.
    keep_failed_pods : bool
        Whether a failed pod stays for a look at it; it goes on holding its scratch disk.
    poll_seconds : int
        Time between looks at a pod.
    log_seconds : int
        In deferrable mode, time between looks at a pod's lines.
    schedule_timeout_seconds, startup_timeout_seconds : int
        Time to get a node, with a GPU node started for it; and then to pull the image and start.
    termination_grace_seconds : int
        Time a stage has to end itself when its pod is deleted.
    gpu_resource : str
        Resource name of a GPU; empty: no stage asks for one.
    node_selector, spot_node_selector : dict of str to str
        Labels of the GPU pool's nodes; and, in addition, those for stages that may run on spot.
    tolerations, spot_tolerations : tuple of Toleration
        Taints not minded; and, in addition, those for stages that may run on spot.
    priority_class, kueue_queue : str
        Priority class and Kueue's local queue; empty: none.
    """

    namespace: str
    kubernetes_conn_id: str
    in_cluster: bool | None
    config_file: str | None
    cluster_context: str | None
    eks_cluster_name: str
    eks_region: str
    aws_conn_id: str
    service_account: str
    stages_service_accounts: dict[str, str]
    storage_secret: str
    mlflow_secret: str
    image_pull_policy: str
    image_pull_secrets: tuple[str, ...]
    pod_template_file: str
    run_as_user: int
    deferrable: bool
    keep_failed_pods: bool
    poll_seconds: int
    log_seconds: int
    schedule_timeout_seconds: int
    startup_timeout_seconds: int
    termination_grace_seconds: int
    gpu_resource: str
    node_selector: dict[str, str]
    tolerations: tuple[Toleration, ...]
    spot_node_selector: dict[str, str]
    spot_tolerations: tuple[Toleration, ...]
    priority_class: str
    kueue_queue: str

    @classmethod
    def read(cls, get: Read) -> "ClusterSettings":
        """Read the options.

        Parameters
        ----------
        get : callable
            Returns an option, or the default that it is given.

        Raises
        ------
        SettingError
            An option has a value that is not allowed.
        """
        return cls(
            namespace=get("namespace", "trusted-retraining"),
            kubernetes_conn_id=get("kubernetes_conn_id", "kubernetes_default"),
            in_cluster=_in_cluster(get("in_cluster", "auto")),
            config_file=get("config_file", "") or None,
            cluster_context=get("cluster_context", "") or None,
            eks_cluster_name=get("eks_cluster_name", ""),
            eks_region=get("eks_region", ""),
            aws_conn_id=get("aws_conn_id", "aws_default"),
            service_account=get("service_account", "default"),
            stages_service_accounts=_json(get, "stages_service_accounts", "{}", _LABELS),
            storage_secret=get("storage_secret", ""),
            mlflow_secret=get("mlflow_secret", ""),
            image_pull_policy=_choice(
                get, "image_pull_policy", ("IfNotPresent", "Always", "Never")
            ),
            image_pull_secrets=tuple(get("image_pull_secrets", "").replace(",", " ").split()),
            pod_template_file=get("pod_template_file", ""),
            run_as_user=_number(get, "run_as_user", 65532),
            deferrable=switch(get, "deferrable"),
            keep_failed_pods=switch(get, "keep_failed_pods"),
            poll_seconds=_number(get, "poll_seconds", 5),
            log_seconds=_number(get, "log_seconds", 30),
            schedule_timeout_seconds=_number(get, "schedule_timeout_seconds", 1800),
            startup_timeout_seconds=_number(get, "startup_timeout_seconds", 1200),
            termination_grace_seconds=_number(get, "termination_grace_seconds", 60),
            gpu_resource=unless_none(get("gpu_resource", "nvidia.com/gpu")),
            node_selector=_json(
                get, "node_selector", '{"nvidia.com/gpu.present": "true"}', _LABELS
            ),
            tolerations=_json(get, "tolerations", GPU_TOLERATION, _TOLERATIONS),
            spot_node_selector=_json(get, "spot_node_selector", "{}", _LABELS),
            spot_tolerations=_json(get, "spot_tolerations", SPOT_TOLERATIONS, _TOLERATIONS),
            priority_class=get("priority_class", ""),
            kueue_queue=get("kueue_queue", ""),
        )


_LABELS = TypeAdapter(dict[str, str])
_TOLERATIONS = TypeAdapter(tuple[Toleration, ...])


def unless_none(value: str) -> str:
    """Return an option's value; nothing if it says that it is to be left out."""
    return "" if value == NONE else value


def _in_cluster(value: str) -> bool | None:
    return None if value == "auto" else _is_true("in_cluster", value, "auto, True or False")


def switch(get: Read, name: str) -> bool:
    return _is_true(name, get(name, "False"), "True or False")


def _is_true(name: str, value: str, allowed: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0", "t", "f", "yes", "no"):
        raise SettingError(name, value, f"is not one of {allowed}")
    return value.lower() in ("true", "1", "t", "yes")


def _number(get: Read, name: str, default: int) -> int:
    value = get(name, str(default))
    if not value.isdecimal() or int(value) < 1:
        raise SettingError(name, value, "is not a whole number of 1 or more")
    return int(value)


def _choice(get: Read, name: str, allowed: tuple[str, ...]) -> str:
    value = get(name, allowed[0])
    if value not in allowed:
        raise SettingError(name, value, f"is not one of {', '.join(allowed)}")
    return value


def _json(get: Read, name: str, default: str, kind: TypeAdapter[T]) -> T:
    value: Any = get(name, default)
    try:
        return kind.validate_json(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise SettingError(
            name, value, f"is not JSON such as {default}: {where}: {problem['msg']}"
        ) from error
