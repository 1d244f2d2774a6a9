"""Serving by a KServe InferenceService.

Knative keeps the former revision and splits the requests by ``canaryTrafficPercent``. In Standard
mode (KServe 0.20 and later) a canary is an entry of ``spec.canary`` with pods of its own, which get
no requests but ours: everybody asks a Service of our own, whose selector goes from the pods of one
version to those of the next.
"""

import hashlib
from dataclasses import replace
from typing import Any

from tasks.contract import BadConfig, StageError
from trusted_retraining.hooks.resources import DEPLOYMENT, INFERENCE_SERVICE
from trusted_retraining.serving import kserve_manifests as manifests
from trusted_retraining.serving.container import container, pod
from trusted_retraining.serving.kserve_status import (
    endpoint_of,
    mode_of,
    predictor_status,
    revision_before,
    revision_readiness,
    why_not_ready,
)
from trusted_retraining.serving.plan import (
    SETTINGS_LABEL,
    Endpoint,
    Readiness,
    Served,
    State,
)
from trusted_retraining.serving.pods import ended, is_ready, pods_trouble, refuses, servers_of
from trusted_retraining.serving.rollout import Phase, Rollout, Seen, condition, owner

NEVER = "violates PodSecurity"
"""What an API server says of pods that it will never take as they are."""


class KServeRollout(Rollout):
    """Moves a version into service on an InferenceService."""

    resource, record = INFERENCE_SERVICE, "rollout"

    @property
    def _knative(self) -> bool:
        return self.plan.pipeline.deploy.mode == "knative"

    def wanted(self) -> Served:
        """Return the version with its predictor."""
        plan = self.plan
        deploy = plan.pipeline.deploy
        server = container(
            plan, name="kserve-container", model_uri=plan.model_uri, fetched_by_kserve=True
        )
        replicas = {"minReplicas": deploy.replicas("kserve"), "maxReplicas": deploy.max_replicas}
        return Served(
            version=plan.version,
            digest=plan.digest,
            model_uri=plan.model_uri,
            spec={**replicas, **pod(plan, server)},
        )

    def begin(self) -> Phase:
        """Apply the version as canary, or alone when it is the first."""
        seen, plan = self.look(), self.plan
        state, found = seen.state, seen.found
        self._check_mode(found)
        self.check_schema()
        candidate = self._named(self.wanted(), seen)
        serving = state.serving
        if serving == candidate:
            # a candidate of a night that was killed is given up: what serves is better than what
            # never proved itself. And an attempt may have been killed before it had done all of it
            held = state.candidate or state.held
            self.move(replace(state, candidate=None, held=held, run_uri=plan.run_uri), seen)
            return "serving"
        if serving is not None and serving.mark == candidate.mark and not self._knative:
            # another number of the same pods needs no trial
            self.move(self._promoted(replace(state, candidate=candidate)), seen)
            return "serving"
        wanted = replace(
            state,
            candidate=candidate,
            unconfirmed=False,
            held=None,
            revision_before=revision_before(found, state, candidate),
            run_uri=plan.run_uri,
        )
        self.move(wanted, seen)
        return "canary"

    def promote(self) -> None:
        """Give it every request; its pods run on as they are, and so do the former ones."""
        seen = self.look()
        if seen.state.candidate is None or seen.state.run_uri != self.plan.run_uri:
            raise StageError(f"{self.plan.name}: another deployment has gone before this one")
        self.move(self._promoted(seen.state), seen)

    def finish(self) -> None:
        """End the former version, which nobody asks any more."""
        seen = self.look()
        if seen.state.unconfirmed:
            self.take_away(replace(seen.state, unconfirmed=False), seen)

    def roll_back(self) -> str:
        """Return to what served before."""
        seen = self.look()
        state = seen.state
        if seen.found is None or state.run_uri != self.plan.run_uri:
            return "nothing of this night is there to be taken back"
        after = replace(state, candidate=None, unconfirmed=False, run_uri="")
        if state.candidate is not None:
            # the former revision runs already: it gets every request at once, and nothing restarts
            after = replace(after, held=state.candidate)
        else:
            # Knative goes over to the former one's new revision as soon as that is ready
            former = state.previous
            held = None if former else state.serving
            after = replace(after, serving=former, previous=None, held=held)
        self.take_away(after, seen)
        if after.serving is None:
            return "nothing served before, so nothing serves now"
        return f"version {after.serving.version} serves as before"

    def carry_out(self, state: State, seen: Seen) -> dict[str, Any]:
        """Apply the InferenceService, and in Standard mode the address that everybody asks."""
        serving = state.serving
        if serving is None or self._knative:
            return self.put(manifests.inference_service(self.plan, state))
        if seen.found is not None:
            # first: the pods run already, and those of the version before are about to end
            self.put(manifests.champion_service(self.plan, serving, owner(seen.found)))
        return self.put(manifests.inference_service(self.plan, state))

    def readiness(self, phase: Phase) -> Readiness:
        """Tell whether pods of this very version are ready, and KServe is content.

        Not by ``status.observedGeneration``, which counts changes of another object.
        """
        seen = self.look()
        found, state = seen.found, seen.state
        if found is None:
            return Readiness(ready=False, reason="the InferenceService is gone", hopeless=True)
        wrong = self._wrong_mode(found)
        if wrong:
            return Readiness(
                ready=False,
                hopeless=True,
                reason=f"{wrong}: canaries of the one do nothing in the other",
            )
        wanted = (state.candidate if phase == "canary" else state.serving) or self.wanted()
        deployment = self._deployment_of(wanted, found)
        pods = self._pods(wanted, others=False)
        ready = sum(is_ready(each) for each in pods)
        told = why_not_ready(found, condition(found, "Ready"))
        failure = condition(deployment, "ReplicaFailure").get("message", "")
        trouble = f"{': ' + failure if failure else ''}{pods_trouble(pods)}"
        hopeless = NEVER in failure or any(refuses(s) for each in pods for s in servers_of(each))
        if told:
            return Readiness(ready=False, reason=f"{told}{trouble}"[:800], hopeless=hopeless)
        if self._knative:
            return revision_readiness(
                found, state, phase=phase, pods=ready, scales_to_zero=not wanted.spec["minReplicas"]
            )
        at_least = wanted.spec["minReplicas"]
        if ready < at_least:
            reason = f"{ready} of {at_least} pods of {wanted.name} are ready{trouble}"
            return Readiness(ready=False, reason=reason[:800], hopeless=hopeless)
        former = self._pods(wanted, others=True)
        if former:
            reason = f"{len(former)} pods of {wanted.name} have other settings as yet"
            return Readiness(ready=False, reason=reason)
        return Readiness(ready=True)

    def endpoint(self, phase: Phase) -> Endpoint:
        """Return the address of the canary alone, or of the service."""
        seen = self.look()
        candidate, serving = seen.state.candidate, seen.state.serving
        alone = phase == "canary" and (serving is not None or not self._knative)
        service = f"{self.plan.name}-predictor"
        if not self._knative:
            tried = candidate or self._named(self.wanted(), seen)
            service = manifests.predictor_name(self.plan, tried.name)
            if not alone:
                service = manifests.champion_name(self.plan)
        return endpoint_of(
            self.plan, seen.found or {}, service=service, alone=alone, knative=self._knative
        )

    def _promoted(self, state: State) -> State:
        candidate, serving = state.candidate or Served.nothing(), state.serving
        if serving is not None and serving.model_uri == candidate.model_uri:
            # KServe gives a predictor another name only with another model: these are exchanged
            candidate = replace(candidate, name=serving.name)
        return replace(
            state,
            serving=candidate,
            previous=serving,
            candidate=None,
            unconfirmed=True,
            run_uri=self.plan.run_uri,
        )

    def _named(self, served: Served, seen: Seen) -> Served:
        """Return a version with the name of its pods in Standard mode.

        It follows from the address of the model, so that it stays the same from canary to champion;
        with other settings of the model that serves it is another one.
        """
        if self._knative:
            return served
        kept = manifests.kept_name(seen.found, served.model_uri)
        mark = hashlib.sha256(served.model_uri.encode()).hexdigest()[:6]
        serving = seen.state.serving
        if serving is not None and serving.model_uri == served.model_uri and serving != served:
            return replace(served, name=f"t{mark}")
        return replace(served, name=kept or f"m{mark}")

    def _pods(self, served: Served, *, others: bool) -> list[dict[str, Any]]:
        """Return the pods of a version, or those that differ from it under its name."""
        sign = "!=" if others else "="
        labels = f"app.kubernetes.io/name={self.plan.name},{SETTINGS_LABEL}{sign}{served.mark}"
        if not self._knative:
            labels += f",app={manifests.app_label(self.plan, served.name)}"
        pods = self.hook.list_pods(self.plan.namespace, labels=labels)
        return [each for each in pods if not ended(each)]

    def _deployment_of(self, served: Served, found: dict[str, Any]) -> dict[str, Any]:
        """Return the Deployment behind a version, which knows why it gets no pods."""
        if self._knative:
            name = f"{predictor_status(found).get('latestCreatedRevision')}-deployment"
        else:
            name = manifests.predictor_name(self.plan, served.name)
        return self.hook.get(DEPLOYMENT, self.plan.namespace, name) or {}

    def _wrong_mode(self, found: dict[str, Any] | None) -> str:
        mode, wanted = mode_of(found), manifests.MODES[self.plan.pipeline.deploy.mode]
        if not mode or manifests.OLD_NAMES.get(mode, mode) == wanted:
            return ""
        return f"KServe serves it in {mode} mode, deploy.mode asks for {wanted}"

    def _check_mode(self, found: dict[str, Any] | None) -> None:
        wrong = self._wrong_mode(found)
        if wrong:
            raise BadConfig(
                f"InferenceService {self.plan.name}: {wrong}, and KServe never changes it: set "
                "deploy.mode to the other, or use another deploy.model_name"
            )

    def check_schema(self) -> None:
        """Refuse a release of KServe that lacks a field of what will be applied.

        Raises
        ------
        BadConfig
            It does; names the fields.
        """
        served = replace(self.wanted(), name="one")
        state = State(serving=served, candidate=replace(served, name="another"))
        body = manifests.inference_service(self.plan, state)
        unknown = self.hook.undeclared(INFERENCE_SERVICE, body)
        if not unknown:
            return
        told = f"this cluster's KServe knows no {', '.join(unknown[:5])}"
        if self._knative:
            raise BadConfig(f"deploy.mode knative: {told}; update KServe")
        raise BadConfig(
            f"deploy.mode standard: {told}, which came with release 0.20: update KServe, or use "
            "deploy.mode knative or deploy.target deployment"
        )
