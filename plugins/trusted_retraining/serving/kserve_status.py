"""What an InferenceService's status tells."""

from typing import Any
from urllib.parse import urlsplit

from trusted_retraining.serving.plan import Endpoint, Plan, Readiness, Served, State

TAG = "latest"
"""Tag that KServe gives the newest revision's own address."""


def endpoint_of(
    plan: Plan, found: dict[str, Any], *, service: str, alone: bool, knative: bool
) -> Endpoint:
    """Return where a version is asked.

    Parameters
    ----------
    plan : Plan
        The version.
    found : dict
        The InferenceService.
    service : str
        The Service before its pods.
    alone : bool
        Whether it is to be asked apart from what serves beside it.
    knative : bool
        Whether Knative serves it.
    """
    told, status = predictor_status(found), found.get("status") or {}
    revision = str(told.get("latestReadyRevision", "")) if knative else ""
    public, inside = str(status.get("url") or ""), ""
    if knative and not alone:
        inside = str((status.get("address") or {}).get("url") or "")
    if alone:
        tagged = [e.get("url") for e in told.get("traffic") or [] if e.get("tag") == TAG]
        # Standard mode gives a canary no public host name
        public = str(tagged[0] or "") if knative and tagged else ""
        service = f"{TAG}-{service}" if knative else service
    serving = plan.settings.serving
    if serving.address:
        url = serving.address.format(service=service, namespace=plan.namespace)
    elif serving.ingress and public:
        host = urlsplit(public).netloc
        return Endpoint(
            url=serving.ingress, headers={"Host": host}, revision=revision, service=service
        )
    else:
        parts = urlsplit(inside or _address_of(told) or "")
        port = f":{parts.port}" if knative and parts.port else ""
        url = f"http://{service}.{plan.namespace}.svc.cluster.local{port}"
        if inside:
            url = f"{parts.scheme}://{parts.netloc}"
    return Endpoint(url=url.rstrip("/"), revision=revision, service=service)


def _address_of(told: dict[str, Any]) -> str:
    return str((told.get("address") or {}).get("url") or "")


def predictor_status(found: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the status tells of the predictor."""
    status = (found or {}).get("status") or {}
    return dict((status.get("components") or {}).get("predictor") or {})


def revision_before(found: dict[str, Any] | None, state: State, candidate: Served) -> str:
    """Return the revision that the candidate's must differ from before it is taken for ready."""
    if found is None or state.serving is None:
        # names begin anew
        return ""
    if state.candidate == candidate:
        return state.revision_before
    if _contains(found["spec"]["predictor"], candidate.spec):
        # it was tried and held back before: there will be no other revision of it
        return ""
    return str(predictor_status(found).get("latestReadyRevision", ""))


def _contains(found: Any, wanted: Any) -> bool:
    """Tell whether an object is as it was applied, whatever defaults the server has added."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and _contains(found[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(_contains(*pair) for pair in zip(found, wanted, strict=True))
        )
    return bool(found == wanted)


def revision_readiness(
    found: dict[str, Any], state: State, *, phase: str, pods: int, scales_to_zero: bool
) -> Readiness:
    """Tell whether Knative's newest revision can be asked.

    Parameters
    ----------
    found : dict
        The InferenceService, which is ready.
    state : State
        What was done to it.
    phase : str
        ``canary`` or ``serving``.
    pods : int
        Pods of the version that are ready.
    scales_to_zero : bool
        Whether there need not be any.
    """
    if phase == "serving" and state.held is not None:
        return Readiness(ready=True)
    told = predictor_status(found)
    latest, created = told.get("latestReadyRevision"), told.get("latestCreatedRevision")
    if not latest or latest != created:
        return Readiness(ready=False, reason=f"revision {created} is not ready")
    if phase == "canary" and state.revision_before and latest == state.revision_before:
        return Readiness(ready=False, reason="there is no new revision yet")
    if not pods and not scales_to_zero:
        # what is told may be about the revision before
        return Readiness(ready=False, reason="no pod of this version is ready")
    shares = [
        each.get("percent") for each in told.get("traffic") or [] if each.get("latestRevision")
    ]
    if phase == "serving" and shares and shares[0] != 100:
        return Readiness(ready=False, reason=f"revision {latest} gets {shares[0]} % as yet")
    return Readiness(ready=True)


def mode_of(found: dict[str, Any] | None) -> str:
    """Return the mode that KServe serves an InferenceService in; empty until it is told."""
    return str(((found or {}).get("status") or {}).get("deploymentMode", ""))


def why_not_ready(found: dict[str, Any], ready: dict[str, Any]) -> str:
    """Return in a few words why the condition ``Ready`` is not true; nothing if it is."""
    if ready.get("status") == "True":
        return ""
    status = found.get("status") or {}
    failure = (status.get("modelStatus") or {}).get("lastFailureInfo") or {}
    words = [
        ready.get("reason"),
        ready.get("message"),
        failure.get("reason"),
        failure.get("message"),
    ]
    return ": ".join(str(word) for word in words if word)[:500] or "it is not READY"
