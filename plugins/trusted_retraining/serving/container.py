"""The container of the model server, the same in every variant."""

from typing import Any

from trusted_retraining.serving.plan import Plan

PORT = 8080
MODEL_FOLDER = "/mnt/models"
"""Where KServe's storage initializer puts the files that ``STORAGE_URI`` names."""

USER = 10001

DRAIN_SECONDS = 10
"""Time that a server answers on after it was told to end."""


def container(plan: Plan, *, name: str, model_uri: str, fetched_by_kserve: bool) -> dict[str, Any]:
    """Return the model server's container, admitted under the ``restricted`` profile.

    Parameters
    ----------
    plan : Plan
        What it serves.
    name : str
        Name of the container.
    model_uri : str
        Where the published files are.
    fetched_by_kserve : bool
        Whether KServe puts the files beside it, rather than the server fetching them.
    """
    cluster, deploy = plan.settings.cluster, plan.pipeline.deploy
    environment = [
        # the server refuses any other files
        {"name": "MODEL_DIGEST", "value": plan.digest},
        {"name": "HOME", "value": "/tmp"},  # noqa: S108
        # what a request may hold follows from these
        {"name": "SERVER_MEMORY", "value": deploy.memory},
        {"name": "MAX_PIXELS", "value": str(deploy.max_pixels)},
        # endpoints and proxies go on sending for a while to a pod that ends
        {"name": "DRAIN_SECONDS", "value": str(DRAIN_SECONDS)},
    ]
    if fetched_by_kserve:
        environment.append({"name": "STORAGE_URI", "value": model_uri})
    requests = {"cpu": deploy.cpu, "memory": deploy.memory}
    if deploy.gpu and cluster.gpu_resource:
        requests[cluster.gpu_resource] = str(deploy.gpu)
    # written always: where there is none KServe puts 1, whatever is requested, and only into what
    # serves, so that a canary's pods would be replaced when it is promoted
    limits = requests | {"cpu": deploy.cpu_at_most}
    result: dict[str, Any] = {
        "name": name,
        "image": plan.settings.serving_image,
        "imagePullPolicy": cluster.image_pull_policy,
        "command": ["python", "-m", "tasks.serving.server"],
        "args": [
            *("--model-uri", MODEL_FOLDER if fetched_by_kserve else model_uri),
            *("--model-name", plan.model, "--model-version", plan.version),
            *("--host", "0.0.0.0", "--port", str(PORT)),  # noqa: S104
        ],
        "env": environment,
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": requests, "limits": limits},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "readinessProbe": _probe(f"/v1/models/{plan.model}", periodSeconds=2, failureThreshold=3),
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108
    }
    secret = plan.settings.serving.storage_secret
    if secret and not fetched_by_kserve:
        result["envFrom"] = [{"secretRef": {"name": secret}}]
    return result


def pod(plan: Plan, server: dict[str, Any]) -> dict[str, Any]:
    """Return what a pod and a predictor have in common around the server's container."""
    cluster, serving = plan.settings.cluster, plan.settings.serving
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "containers": [server],
        # of the pod, so that it also holds for the containers that KServe puts beside the server
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "scratch", "emptyDir": {}}],
    }
    if serving.service_account:
        spec["serviceAccountName"] = serving.service_account
    if cluster.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.image_pull_secrets]
    if plan.pipeline.deploy.gpu:
        spec["nodeSelector"] = dict(cluster.node_selector)
        spec["tolerations"] = [
            each.model_dump(exclude_none=True, by_alias=True) for each in cluster.tolerations
        ]
    return spec


def probes(plan: Plan) -> dict[str, Any]:
    """Return the probes that a plain Deployment has besides readiness; Knative takes no others."""
    seconds = plan.pipeline.deploy.startup_seconds
    return {
        # loading a model on a cold node may take as long as it is given
        "startupProbe": _probe(
            "/v2/health/live", periodSeconds=2, failureThreshold=max(1, -(-seconds // 2))
        ),
        "livenessProbe": _probe("/v2/health/live", periodSeconds=10, failureThreshold=6),
    }


def _probe(path: str, **timing: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": PORT}, "timeoutSeconds": 5, **timing}
