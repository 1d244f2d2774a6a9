"""The objects of the plain variant: Deployments, Services, disruption budget, autoscaler."""

from typing import Any

from trusted_retraining.hooks.resources import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    SERVICE,
    Resource,
)
from trusted_retraining.serving.container import PORT, container, pod, probes
from trusted_retraining.serving.plan import Plan

ROLE = "trusted-retraining/role"
"""Label that tells the pods that everybody asks (``serving``) from the one that is tried."""

DIGEST_LABEL = "trusted-retraining/digest"

CPU_PERCENT = 70
"""Use of the requested CPU at which the autoscaler adds a pod."""


def pod_spec(plan: Plan) -> dict[str, Any]:
    """Return the pods that serve a version."""
    server = container(plan, name="server", model_uri=plan.model_uri, fetched_by_kserve=False)
    return {
        **pod(plan, server | probes(plan)),
        # requests under way are finished
        "terminationGracePeriodSeconds": 30,
    }


def deployment(
    plan: Plan, spec: dict[str, Any], *, role: str, replicas: int | None, digest: str
) -> dict[str, Any]:
    """Return a Deployment.

    Parameters
    ----------
    plan : Plan
        Names it.
    spec : dict
        Its pods.
    role : str
        ``serving`` or ``canary``.
    replicas : int or None
        None leaves the number to the autoscaler.
    digest : str
        Of the version, as a label of the pods.
    """
    selector = _selector(plan, role)
    labels = {**plan.labels, **selector, DIGEST_LABEL: digest[:16]}
    whole: dict[str, Any] = {
        "selector": {"matchLabels": selector},
        # never a pod less than now while pods are exchanged
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "revisionHistoryLimit": 3,
        # for who looks with kubectl; our own waiting ends then as well
        "progressDeadlineSeconds": plan.pipeline.deploy.startup_seconds,
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                **spec,
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": "kubernetes.io/hostname",
                        # a small cluster may have one node
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": selector},
                    }
                ],
            },
        },
    }
    if replicas is not None:
        whole["replicas"] = replicas
    return _object(DEPLOYMENT, plan, _name(plan, role), whole)


def service(plan: Plan, *, role: str) -> dict[str, Any]:
    """Return the Service before the pods of a role."""
    port = {"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"}
    whole = {"selector": _selector(plan, role), "ports": [port]}
    return _object(SERVICE, plan, _name(plan, role), whole)


def disruption_budget(plan: Plan) -> dict[str, Any]:
    """Return the budget that keeps a drained node from taking the last pod."""
    whole = {"maxUnavailable": 1, "selector": {"matchLabels": _selector(plan, "serving")}}
    return _object(DISRUPTION_BUDGET, plan, plan.name, whole)


def autoscaler(plan: Plan) -> dict[str, Any]:
    """Return the autoscaler between ``min_replicas`` and ``max_replicas``, by CPU."""
    deploy = plan.pipeline.deploy
    target = {"type": "Utilization", "averageUtilization": CPU_PERCENT}
    whole = {
        "scaleTargetRef": {
            "apiVersion": DEPLOYMENT.api_version,
            "kind": DEPLOYMENT.kind,
            "name": plan.name,
        },
        "minReplicas": deploy.replicas("deployment"),
        "maxReplicas": deploy.max_replicas,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    return _object(AUTOSCALER, plan, plan.name, whole)


def _name(plan: Plan, role: str) -> str:
    return plan.name if role == "serving" else f"{plan.name}-{role}"


def _selector(plan: Plan, role: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": plan.name, ROLE: role}


def _object(resource: Resource, plan: Plan, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "namespace": plan.namespace, "labels": plan.labels},
        "spec": spec,
    }
