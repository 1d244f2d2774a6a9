"""The objects of a model that KServe serves: the InferenceService, and an address that lasts."""

from typing import Any

from trusted_retraining.hooks.resources import INFERENCE_SERVICE, SERVICE
from trusted_retraining.serving.container import PORT
from trusted_retraining.serving.plan import SCALING, SETTINGS_LABEL, Plan, Served, State

MODES = {"knative": "Knative", "standard": "Standard"}
OLD_NAMES = {"Serverless": "Knative", "RawDeployment": "Standard"}
"""KServe's modes before release 0.16."""

ONE_BY_ONE = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
"""Never a pod less than now while pods are exchanged."""


def inference_service(plan: Plan, state: State) -> dict[str, Any]:
    """Return the whole InferenceService of a state, as far as it is ours."""
    knative = plan.pipeline.deploy.mode == "knative"
    annotations = {"serving.kserve.io/deploymentMode": MODES[plan.pipeline.deploy.mode]}
    if knative:
        # gives the newest revision an address of its own
        annotations["serving.kserve.io/enable-tag-routing"] = "true"
    serving, candidate = state.serving, state.candidate
    if serving is None and candidate is None:
        annotations["serving.kserve.io/stop"] = "true"
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {
            "name": plan.name,
            "namespace": plan.namespace,
            "labels": plan.labels,
            "annotations": annotations,
        },
        "spec": _revisions(plan, state) if knative else _variants(state),
    }


def _revisions(plan: Plan, state: State) -> dict[str, Any]:
    """Knative keeps the revision before the newest, and what the newest does not get is its."""
    serving, newest = state.serving, state.candidate or state.held
    whole = _labelled(newest or serving or Served.nothing())
    if serving is not None and newest is not None:
        share = plan.pipeline.deploy.canary_share if state.candidate is not None else 0
        whole["canaryTrafficPercent"] = share
    return {"predictor": whole}


def _variants(state: State) -> dict[str, Any]:
    """In Standard mode each version has pods of its own, told apart by their names."""
    serving = state.serving
    beside = state.candidate
    if serving is None:
        first = state.candidate or state.held or Served.nothing()
        return {"predictor": _variant(first)}
    if beside is None and state.unconfirmed:
        beside = state.previous
    if beside is None or beside.name == serving.name:
        return {"predictor": _variant(serving)}
    whole = _variant(serving)
    pods = max(1, int(beside.spec["minReplicas"]))
    # KServe takes the canary's pods from those of what serves
    whole["minReplicas"] += pods
    whole["maxReplicas"] = max(whole["maxReplicas"], whole["minReplicas"])
    # and refuses a canary that scales by itself
    fixed = {key: value for key, value in _variant(beside).items() if key not in ALONE}
    canary = {"predictor": fixed | {"minReplicas": pods}, "trafficPercent": 0}
    return {"predictor": whole, "canary": [canary]}


ALONE = (*SCALING, "deploymentStrategy")
"""Fields that only what serves has."""


def _variant(served: Served) -> dict[str, Any]:
    named = {"name": served.name, "deploymentStrategy": ONE_BY_ONE}
    return {**_labelled(served), **named}


def _labelled(served: Served) -> dict[str, Any]:
    return {**served.spec, "labels": {SETTINGS_LABEL: served.mark}}


def champion_service(plan: Plan, serving: Served, owned_by: dict[str, str]) -> dict[str, Any]:
    """Return the Service that everybody asks in Standard mode: KServe's own are named after the
    version, and go with it."""
    port = {"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"}
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": {
            "name": champion_name(plan),
            "namespace": plan.namespace,
            "labels": plan.labels,
            "ownerReferences": [owned_by],
        },
        "spec": {"selector": {"app": app_label(plan, serving.name)}, "ports": [port]},
    }


def champion_name(plan: Plan) -> str:
    """Return the name of the address that lasts."""
    return f"{plan.name}-champion"


def predictor_name(plan: Plan, name: str) -> str:
    """Return what KServe calls Deployment and Service of a version in Standard mode."""
    return f"{plan.name}-{name}-predictor"


def app_label(plan: Plan, name: str) -> str:
    """Return the label ``app`` that KServe gives the pods of a version in Standard mode."""
    return f"isvc.{predictor_name(plan, name)}"


def kept_name(found: dict[str, Any] | None, model_uri: str) -> str:
    """Return the name that a predictor has if it serves a model from this address, else nothing:
    KServe takes another one only with another address."""
    predictor: dict[str, Any] = ((found or {}).get("spec") or {}).get("predictor") or {}
    for each in predictor.get("containers") or []:
        if {"name": "STORAGE_URI", "value": model_uri} in each.get("env", []):
            return str(predictor.get("name") or "")
    return ""
