"""The pod of an extra stage: somebody else's container between two of ours.

One pod, three steps in a row: ``fetch`` (ours) makes the inputs ready, ``foreign`` (theirs) works,
``stage`` (ours) commits what it left. The first two are init containers, so that Kubernetes itself
sees to it that nothing is committed unless the foreign container ended with exit code 0. That one
has no code of ours in it, sees two folders of the shared volume, and gets none of our credentials.
"""

import copy
from collections.abc import Sequence
from typing import Any

from tasks.contract import command_line, protocol_variables, run_uri
from tasks.spec import ExtraStage, Pipeline, Requests, Resources
from trusted_retraining.pods import (
    CONTAINER,
    Object,
    container_resources,
    container_security,
    literal,
    secret_variables,
    stage_pod,
)
from trusted_retraining.settings import Settings

FETCH, FOREIGN = "fetch", "foreign"
"""Names of the two init containers."""

STEPS = (FETCH, FOREIGN, CONTAINER)

EXCHANGE = "/exchange"
"""Where our containers have the shared volume."""
INPUTS, OUTPUTS = "/trusted-retraining/inputs", "/trusted-retraining/outputs"
"""Where the foreign container has the two folders of it."""

_TMP = "/tmp"  # noqa: S108

SKIP_IDENTITY = "eks.amazonaws.com/skip-containers"
"""Annotation by which EKS's webhook leaves a container without the role of the pod."""


def extra_pod(
    *,
    extra: ExtraStage,
    pipeline: Pipeline,
    settings: Settings,
    run_id: str,
    arguments: Sequence[str],
) -> Object:
    """Return the pod that runs an extra stage.

    Parameters
    ----------
    extra : ExtraStage
        The stage; has an image.
    pipeline : Pipeline
        The night's pipeline, overrides applied.
    settings : Settings
        Our own image, namespace, addresses.
    run_id : str
        Airflow's run id.
    arguments : sequence of str
        What follows ``python -m tasks``, without the phase.

    Returns
    -------
    dict
        A ``v1`` Pod.
    """
    ours = [*arguments, "--exchange", EXCHANGE, "--phase"]
    pod = own_pod(
        extra=extra,
        pipeline=pipeline,
        settings=settings,
        run_id=run_id,
        arguments=[*ours, "commit"],
    )
    spec = pod["spec"]
    requests = extra.requests(pipeline.resources)
    (commit,) = spec["containers"]
    commit["volumeMounts"].append({"name": "exchange", "mountPath": EXCHANGE})
    fetch = copy.deepcopy(commit)
    fetch["name"] = FETCH
    fetch["args"] = [literal(argument) for argument in [*ours, "fetch"]]
    for variable in fetch["env"]:
        if variable["name"] == "TRUSTED_RETRAINING_SCRATCH":
            # on the volume itself: what is fetched is linked into the inputs, not copied
            variable["value"] = f"{EXCHANGE}/scratch"
    foreign = _foreign(extra, requests, pipeline=pipeline, settings=settings, run_id=run_id)
    spec["initContainers"] = [fetch, foreign]
    disk = {"sizeLimit": requests.ephemeral_storage}
    memory = {"medium": "Memory", "sizeLimit": requests.shared_memory}
    spec["volumes"] += [
        {"name": "exchange", "emptyDir": disk},
        {"name": "foreign-tmp", "emptyDir": disk},
        {"name": "foreign-shm", "emptyDir": memory},
    ]
    if "storage" not in extra.credentials:
        pod["metadata"]["annotations"][SKIP_IDENTITY] = FOREIGN
    return pod


def own_pod(
    *,
    extra: ExtraStage,
    pipeline: Pipeline,
    settings: Settings,
    run_id: str,
    arguments: Sequence[str],
) -> Object:
    """Return a pod of our own image alone: to take over an earlier result nothing else is needed.

    Parameters
    ----------
    extra : ExtraStage
        Says where the pod is placed, and for how long it may run.
    pipeline, settings, run_id, arguments : Pipeline, Settings, str, sequence of str
        As for :func:`trusted_retraining.pods.stage_pod`.
    """
    placed = extra.resources.model_copy(update=dict.fromkeys(Requests.model_fields))
    resources: Resources = pipeline.resources.model_copy(
        update={"stages": {**pipeline.resources.stages, extra.name: placed}}
    )
    minutes = extra.timeout_minutes or pipeline.stage_timeout_minutes
    return stage_pod(
        stage=extra.name,
        pipeline=pipeline.model_copy(
            update={"resources": resources, "stage_timeout_minutes": minutes}
        ),
        settings=settings,
        run_id=run_id,
        arguments=arguments,
    )


def _foreign(
    extra: ExtraStage,
    requests: Requests,
    *,
    pipeline: Pipeline,
    settings: Settings,
    run_id: str,
) -> Object:
    cluster = settings.cluster
    security = container_security() | {"readOnlyRootFilesystem": extra.read_only_root}
    if extra.user is not None:
        security["runAsUser"] = extra.user
    # as it is in paths, the same as on one machine
    name = run_uri("", pipeline.name, run_id).rsplit("/", 1)[-1]
    variables = {
        "HOME": _TMP,
        "TMPDIR": _TMP,
        **extra.env,
        **protocol_variables(
            extra, inputs=INPUTS, outputs=OUTPUTS, pipeline=pipeline.name, run_id=name
        ),
    }
    container: Object = {
        "name": FOREIGN,
        "image": extra.image,
        "imagePullPolicy": cluster.image_pull_policy,
        "env": [{"name": n, "value": literal(value)} for n, value in variables.items()],
        "envFrom": _secrets(extra, settings),
        "resources": container_resources(requests, gpu_resource=cluster.gpu_resource),
        "securityContext": security,
        # the last lines of a program that knows nothing of our failure records
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "exchange", "mountPath": INPUTS, "subPath": "inputs", "readOnly": True},
            {"name": "exchange", "mountPath": OUTPUTS, "subPath": "outputs"},
            {"name": "foreign-tmp", "mountPath": _TMP},
            {"name": "foreign-shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }
    if extra.command:
        words = command_line(extra, inputs=INPUTS, outputs=OUTPUTS)
        container["command"] = [literal(word) for word in words]
    return container


def _secrets(extra: ExtraStage, settings: Settings) -> list[Object]:
    """Return the references to the secrets that the stage asks for; none unless it does."""
    cluster = settings.cluster
    ours = {"storage": cluster.storage_secret, "mlflow": cluster.mlflow_secret}
    asked = {ours[name] for name in extra.credentials}
    found = [
        reference
        for reference in secret_variables(cluster)
        if reference["secretRef"]["name"] in asked
    ]
    return [*found, *([{"secretRef": {"name": extra.secret}}] if extra.secret else [])]


def present_step(pod: Any) -> Any:
    """Return the pod of an extra stage as if its present step were its one container.

    What waits for a pod, follows it and tells why it failed looks at one container, and takes a pod
    whose init containers run for one that has not started.

    Parameters
    ----------
    pod : V1Pod
        As the cluster has it; stays as it is.

    Returns
    -------
    V1Pod
        With the first step that has not ended well as its container; the pod itself if it has no
        steps.
    """
    if FOREIGN not in {container.name for container in pod.spec.init_containers or ()}:
        return pod
    statuses = {
        status.name: status
        for status in [*(pod.status.init_container_statuses or ()),
                       *(pod.status.container_statuses or ())]
    }  # fmt: skip
    name = step_of(pod)
    seen = copy.copy(pod)
    seen.spec, seen.status = copy.copy(pod.spec), copy.copy(pod.status)
    container = copy.copy(
        next(c for c in [*pod.spec.init_containers, *pod.spec.containers] if c.name == name)
    )
    container.name = CONTAINER
    seen.spec.containers = [container]
    status = statuses.get(name)
    if status is not None:
        status = copy.copy(status)
        status.name = CONTAINER
        seen.status.container_statuses = [status]
    first = statuses.get(FETCH)
    begun = first is not None and (first.state.running or first.state.terminated)
    if pod.status.phase == "Pending" and begun:
        seen.status.phase = "Running"
    return seen


def step_of(pod: Any) -> str:
    """Return which step of its pod a stage has come to: the first that has not ended well.

    Parameters
    ----------
    pod : V1Pod
        As the cluster has it.
    """
    ended = {
        status.name
        for status in pod.status.init_container_statuses or ()
        if status.state.terminated is not None and status.state.terminated.exit_code == 0
    }
    return next(name for name in STEPS if name not in ended)
