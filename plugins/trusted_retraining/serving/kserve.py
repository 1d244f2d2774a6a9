"""Serving by a KServe InferenceService.

Knative keeps the former revision and splits the requests by ``canaryTrafficPercent``. In Standard
mode (KServe 0.20 and later) a canary is an entry of ``spec.canary`` with pods of its own.
"""

import hashlib
import json
from dataclasses import replace
from typing import Any

from tasks.contract import BadConfig, StageError
from trusted_retraining.hooks.resources import INFERENCE_SERVICE
from trusted_retraining.serving.container import container, pod
from trusted_retraining.serving.kserve_status import (
    endpoint_of,
    is_held_back,
    predictor_status,
    revision_before,
    why_not_ready,
)
from trusted_retraining.serving.plan import Endpoint, Plan, Readiness, Served, State
from trusted_retraining.serving.rollout import Phase, Rollout, condition

MODES = {"knative": "Knative", "standard": "Standard"}
OLD_NAMES = {"Serverless": "Knative", "RawDeployment": "Standard"}
"""KServe's modes before release 0.16."""


def predictor(plan: Plan) -> dict[str, Any]:
    """Return the predictor that serves a version."""
    deploy = plan.pipeline.deploy
    server = container(
        plan, name="kserve-container", model_uri=plan.model_uri, fetched_by_kserve=True
    )
    result = {
        "minReplicas": deploy.replicas("kserve"),
        "maxReplicas": deploy.max_replicas,
        **pod(plan, server),
    }
    if deploy.mode == "standard":
        # they have a name of their own, so that promoting them restarts nothing
        result["name"] = variant(plan.version, result)
    return result


def variant(version: str, spec: dict[str, Any]) -> str:
    """Return the name of the pods of a version in Standard mode.

    Other settings make another name: a version that serves already is tried with them like any new
    one. 12 characters at most, see ``LONGEST_NAME``.
    """
    mark = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
    return f"v{version}-{mark[:5]}" if version.isdecimal() and len(version) < 6 else f"d{mark[:10]}"


class KServeRollout(Rollout):
    """Moves a version into service on an InferenceService."""

    resource = INFERENCE_SERVICE

    @property
    def _knative(self) -> bool:
        return self.plan.pipeline.deploy.mode == "knative"

    def wanted(self) -> Served:
        """Return the version with its predictor."""
        plan = self.plan
        return Served(
            version=plan.version, digest=plan.digest, model_uri=plan.model_uri, spec=predictor(plan)
        )

    def body(
        self,
        spec: dict[str, Any],
        *,
        percent: int | None = None,
        canary: dict[str, Any] | None = None,
        stopped: bool = False,
    ) -> dict[str, Any]:
        """Return the whole InferenceService, as far as it is ours.

        Parameters
        ----------
        spec : dict
            The predictor: the newest one in Knative mode, the proven one in Standard mode.
        percent : int, optional
            Share of the requests that the newest revision, or the canary, gets; None: all.
        canary : dict, optional
            Predictor of the canary in Standard mode.
        stopped : bool
            Whether it is to serve nothing at all.
        """
        plan = self.plan
        annotations = {"serving.kserve.io/deploymentMode": MODES[plan.pipeline.deploy.mode]}
        whole: dict[str, Any] = {"predictor": dict(spec)}
        if self._knative:
            # gives the newest revision an address of its own
            annotations["serving.kserve.io/enable-tag-routing"] = "true"
            if percent is not None:
                whole["predictor"]["canaryTrafficPercent"] = percent
        elif canary is not None:
            whole["canary"] = [{"predictor": _without_scaling(canary), "trafficPercent": percent}]
        if stopped:
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
            "spec": whole,
        }

    def begin(self) -> Phase:
        """Apply the version as canary, or alone when it is the first."""
        found, plan = self.look(), self.plan
        state = State.read(found)
        self._check_mode(found)
        candidate = self.wanted()
        if found is not None and state.serving == candidate:
            if state.candidate is not None or state.run_uri != plan.run_uri:
                # a candidate of a night that was killed; what serves is better than what never
                # proved itself
                held = self._knative and (state.candidate is not None or is_held_back(found))
                body = self.body(candidate.spec, percent=0 if held else None)
                self.apply(body, replace(state, candidate=None, run_uri=plan.run_uri), found)
            return "serving"
        wanted = replace(
            state,
            candidate=candidate,
            revision_before=revision_before(found, state, candidate),
            run_uri=plan.run_uri,
        )
        percent = plan.pipeline.deploy.canary_percent
        if state.serving is None:
            body = self.body(candidate.spec)
        elif self._knative:
            body = self.body(candidate.spec, percent=percent)
        else:
            body = self.body(state.serving.spec, percent=percent, canary=candidate.spec)
            self._check_canary_is_known(body)
        self.apply(body, wanted, found)
        return "canary"

    def promote(self) -> None:
        """Give it every request; its pods run on as they are."""
        found = self.look()
        state = State.read(found)
        if state.candidate is None or state.run_uri != self.plan.run_uri:
            raise StageError(f"{self.plan.name}: another deployment has gone before this one")
        promoted = replace(state, serving=state.candidate, previous=state.serving, candidate=None)
        self.apply(self.body(state.candidate.spec), promoted, found)

    def finish(self) -> None:
        """Nothing is left over: KServe removes what no revision needs."""

    def roll_back(self) -> str:
        """Return to what served before."""
        found = self.look()
        state = State.read(found)
        if found is None or state.run_uri != self.plan.run_uri:
            return "nothing of this night is there to be taken back"
        over = replace(state, candidate=None, run_uri="")
        if state.candidate is not None:
            former, after, body = state.serving, over, self._without_candidate(state)
        else:
            former, bad = state.previous, state.serving
            after = replace(over, serving=former, previous=None)
            # Knative goes over to the former one's new revision as soon as that is ready
            spec = (former or bad or Served.nothing()).spec
            body = self.body(spec, stopped=former is None)
        self.apply(body, after, found)
        if former is None:
            return "nothing served before, so nothing serves now"
        return f"version {former.version} serves as before"

    def _without_candidate(self, state: State) -> dict[str, Any]:
        """Return the InferenceService with all requests to what serves."""
        candidate, serving = state.candidate, state.serving
        if serving is None:
            return self.body((candidate or Served.nothing()).spec, stopped=True)
        if self._knative and candidate is not None:
            # the former revision runs already: it gets every request at once, and nothing restarts
            return self.body(candidate.spec, percent=0)
        return self.body(serving.spec)

    def readiness(self, phase: Phase) -> Readiness:
        """Tell whether KServe has done what was last applied."""
        found = self.hook.get(INFERENCE_SERVICE, self.plan.namespace, self.plan.name)
        if found is None:
            return Readiness(ready=False, reason="the InferenceService is gone", hopeless=True)
        status = found.get("status") or {}
        if int(status.get("observedGeneration") or 0) < found["metadata"]["generation"]:
            # READY would still be that of the version before
            return Readiness(ready=False, reason="KServe has not seen the change yet")
        mode = status.get("deploymentMode", "")
        wanted = MODES[self.plan.pipeline.deploy.mode]
        if mode and OLD_NAMES.get(mode, mode) != wanted:
            return Readiness(
                ready=False,
                hopeless=True,
                reason=f"KServe serves it in {mode} mode, deploy.mode asks for {wanted}: "
                "canaries of the one do nothing in the other",
            )
        ready = condition(found, "Ready")
        if ready.get("status") != "True":
            return Readiness(ready=False, reason=why_not_ready(found, ready))
        if self._knative:
            return self._revision_readiness(found, phase)
        return self._variant_readiness(found, phase)

    def endpoint(self, phase: Phase) -> Endpoint:
        """Return the address of the canary alone, or of the service."""
        found = self.hook.get(INFERENCE_SERVICE, self.plan.namespace, self.plan.name)
        alone = phase == "canary" and State.read(found).serving is not None
        variant = "" if self._knative else str(predictor(self.plan)["name"])
        return endpoint_of(self.plan, found or {}, variant=variant, alone=alone)

    def _revision_readiness(self, found: dict[str, Any], phase: Phase) -> Readiness:
        told, state = predictor_status(found), State.read(found)
        if phase == "serving" and is_held_back(found):
            return Readiness(ready=True)
        latest, created = told.get("latestReadyRevision"), told.get("latestCreatedRevision")
        if not latest or latest != created:
            return Readiness(ready=False, reason=f"revision {created} is not ready")
        if phase == "canary" and state.revision_before and latest == state.revision_before:
            return Readiness(ready=False, reason="there is no new revision yet")
        shares = [
            each.get("percent") for each in told.get("traffic") or [] if each.get("latestRevision")
        ]
        if phase == "serving" and shares and shares[0] != 100:
            return Readiness(ready=False, reason=f"revision {latest} gets {shares[0]} % as yet")
        return Readiness(ready=True)

    def _variant_readiness(self, found: dict[str, Any], phase: Phase) -> Readiness:
        state = State.read(found)
        if phase == "serving" or state.serving is None:
            return Readiness(ready=True)
        name = predictor(self.plan)["name"]
        for each in (found.get("status") or {}).get("canaryStatuses") or []:
            if each.get("name") == name:
                ready = bool(each.get("ready"))
                return Readiness(ready=ready, reason="" if ready else f"canary {name} is not ready")
        return Readiness(ready=False, reason=f"KServe tells nothing of canary {name}")

    def _check_mode(self, found: dict[str, Any] | None) -> None:
        mode = ((found or {}).get("status") or {}).get("deploymentMode", "")
        wanted = MODES[self.plan.pipeline.deploy.mode]
        if mode and OLD_NAMES.get(mode, mode) != wanted:
            raise BadConfig(
                f"InferenceService {self.plan.name} is served in {mode} mode, which KServe never "
                f"changes; deploy.mode asks for {wanted}: set it to the other, or use another "
                "deploy.model_name"
            )

    def _check_canary_is_known(self, body: dict[str, Any]) -> None:
        tried = self.hook.apply(
            INFERENCE_SERVICE, self.plan.namespace, body, force=True, dry_run=True
        )
        if not (tried.get("spec") or {}).get("canary"):
            raise BadConfig(
                "deploy.mode standard: this cluster's KServe drops spec.canary, which came with "
                "release 0.20, so a new version could only replace the old one unproved; update "
                "KServe, or use deploy.mode knative or deploy.target deployment"
            )


def _without_scaling(spec: dict[str, Any]) -> dict[str, Any]:
    # KServe refuses a canary that scales by itself; one pod is enough to be asked
    return {**{k: v for k, v in spec.items() if k != "maxReplicas"}, "minReplicas": 1}
