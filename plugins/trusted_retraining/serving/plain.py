"""Serving by a plain Deployment and its Service, where there is no KServe.

A new version proves itself in a Deployment of its own with one pod, which nobody else asks; then
the pods that everybody asks are exchanged one by one.
"""

from dataclasses import replace
from typing import Any

from tasks.contract import StageError
from trusted_retraining.hooks.resources import AUTOSCALER, DEPLOYMENT, DISRUPTION_BUDGET, SERVICE
from trusted_retraining.serving import deployment_manifests as manifests
from trusted_retraining.serving.deployment_manifests import DIGEST_LABEL
from trusted_retraining.serving.plan import Endpoint, Readiness, Served, State
from trusted_retraining.serving.pods import ended, pods_trouble, refuses, servers_of
from trusted_retraining.serving.rollout import Phase, Rollout, Seen, log


class PlainRollout(Rollout):
    """Moves a version into service on a Deployment behind a Service."""

    resource, record = SERVICE, "deployment-rollout"

    def wanted(self) -> Served:
        """Return the version with its pods."""
        plan = self.plan
        return Served(
            version=plan.version,
            digest=plan.digest,
            model_uri=plan.model_uri,
            spec=manifests.pod_spec(plan),
        )

    def up_to_date(self) -> bool:
        """Tell whether the number of pods is bounded as the pipeline says."""
        plan = self.plan
        scaled = self.hook.serves(AUTOSCALER)
        found = self.hook.get(AUTOSCALER if scaled else DEPLOYMENT, plan.namespace, plan.name)
        spec = (found or {}).get("spec") or {}
        if not scaled:
            return bool(spec.get("replicas") == plan.pipeline.deploy.replicas("deployment"))
        wanted = manifests.autoscaler(plan)["spec"]
        return all(spec.get(key) == wanted[key] for key in ("minReplicas", "maxReplicas"))

    def begin(self) -> Phase:
        """Start one pod of the version beside what serves."""
        seen, run_uri = self.look(), self.plan.run_uri
        candidate = self.wanted()
        if seen.state.serving == candidate:
            # an attempt may have been killed between the record and what follows from it
            self.move(replace(seen.state, candidate=None, run_uri=run_uri), seen)
            return "serving"
        self._check_all_ours()
        self.move(replace(seen.state, candidate=candidate, run_uri=run_uri), seen)
        return "canary"

    def promote(self) -> None:
        """Exchange the pods that everybody asks."""
        seen = self.look()
        state = seen.state
        if state.candidate is None or state.run_uri != self.plan.run_uri:
            raise StageError(f"{self.plan.name}: another deployment has gone before this one")
        # the pod that was tried runs on until they have proved themselves, too
        promoted = replace(state, serving=state.candidate, previous=state.serving, candidate=None)
        self.move(replace(promoted, unconfirmed=True), seen)

    def finish(self) -> None:
        """End the pod that was tried."""
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
        if state.candidate is None:
            after = replace(after, serving=state.previous, previous=None)
        self.take_away(after, seen)
        if after.serving is None:
            return "nothing served before, so nothing serves now"
        return f"version {after.serving.version} serves as before"

    def carry_out(self, state: State, seen: Seen) -> dict[str, Any]:
        """Apply the Services and Deployments."""
        plan = self.plan
        service = self.put(manifests.service(plan, role="serving"))
        tried = state.candidate or seen.state.candidate or state.serving or seen.state.serving
        if state.candidate is not None:
            self.put(manifests.service(plan, role="canary"))
        if state.serving is not None:
            self._serve(state.serving)
        elif self.hook.get(DEPLOYMENT, plan.namespace, plan.name) is not None:
            self.put(self._deployment(tried or Served.nothing(), role="serving", replicas=0))
        if tried is not None:
            replicas = int(state.candidate is not None or state.unconfirmed)
            self.put(self._deployment(tried, role="canary", replicas=replicas))
        return service

    def readiness(self, phase: Phase) -> Readiness:
        """Tell whether all pods of the Deployment are of the version, and ready."""
        name = self.plan.name if phase == "serving" else f"{self.plan.name}-canary"
        found = self.hook.get(DEPLOYMENT, self.plan.namespace, name)
        if found is None:
            return Readiness(ready=False, reason=f"Deployment {name} is gone", hopeless=True)
        status, wanted = found.get("status") or {}, found["spec"].get("replicas", 1)
        if int(status.get("observedGeneration") or 0) < found["metadata"]["generation"]:
            return Readiness(ready=False, reason="the change has not been seen yet")
        if self._digest_of(found) != self.plan.digest[:16]:
            reason = f"Deployment {name} was given another version"
            return Readiness(ready=False, reason=reason, hopeless=True)
        counts = [int(status.get(key) or 0) for key in ("updatedReplicas", "availableReplicas")]
        if wanted > 0 and counts == [wanted, wanted] and int(status["replicas"]) == wanted:
            return Readiness(ready=True)
        # not by the condition Progressing: that may be left from an attempt before
        pods = self._pods(found)
        hopeless = any(refuses(server) for each in pods for server in servers_of(each))
        reason = f"{counts[0]} of {wanted} pods are new, {counts[1]} available{pods_trouble(pods)}"
        return Readiness(ready=False, reason=reason, hopeless=hopeless)

    def endpoint(self, phase: Phase) -> Endpoint:
        """Return the address of the Service before the canary, or of the one everybody asks."""
        plan = self.plan
        name = plan.name if phase == "serving" else f"{plan.name}-canary"
        address = plan.settings.serving.address or "http://{service}.{namespace}.svc.cluster.local"
        url = address.format(service=name, namespace=plan.namespace)
        return Endpoint(url=url, service=name)

    def _check_all_ours(self) -> None:
        """Refuse objects of others while nothing has been changed yet."""
        name = self.plan.name
        for resource, each in (
            (SERVICE, f"{name}-canary"),
            (DEPLOYMENT, f"{name}-canary"),
            (DEPLOYMENT, name),
        ):
            found = self.hook.get(resource, self.plan.namespace, each)
            if found is not None:
                self.check_ours(found)

    def _serve(self, served: Served) -> None:
        plan = self.plan
        scaled = self.hook.serves(AUTOSCALER)
        fixed = None if scaled else plan.pipeline.deploy.replicas("deployment")
        self.put(self._deployment(served, role="serving", replicas=fixed))
        if scaled:
            self.put(manifests.autoscaler(plan))
        else:
            log.warning("autoscaling/v2 is not served here: %d pods, always", fixed)
        if self.hook.serves(DISRUPTION_BUDGET):
            self.put(manifests.disruption_budget(plan))
        else:
            log.warning("policy/v1 is not served here: no PodDisruptionBudget")

    def _deployment(self, served: Served, *, role: str, replicas: int | None) -> dict[str, Any]:
        return manifests.deployment(
            self.plan, served.spec, role=role, replicas=replicas, digest=served.digest
        )

    def _digest_of(self, found: dict[str, Any]) -> str:
        labels = found["spec"]["template"]["metadata"].get("labels") or {}
        return str(labels.get(DIGEST_LABEL, ""))

    def _pods(self, found: dict[str, Any]) -> list[dict[str, Any]]:
        labels = found["spec"]["template"]["metadata"]["labels"]
        keys = (*found["spec"]["selector"]["matchLabels"], DIGEST_LABEL)
        selector = ",".join(f"{key}={labels[key]}" for key in keys if key in labels)
        pods = self.hook.list_pods(self.plan.namespace, labels=selector)
        # those of an attempt before, which are about to end
        return [each for each in pods if not ended(each)]
