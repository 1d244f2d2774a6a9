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
from trusted_retraining.serving.rollout import Phase, Rollout, condition, log

PATIENCE = 2
"""Times that a server may be started again although it said why it ended: a store may be away."""


class PlainRollout(Rollout):
    """Moves a version into service on a Deployment. The Service holds the state."""

    resource = SERVICE

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
        found, plan = self.look(), self.plan
        state = State.read(found)
        candidate = self.wanted()
        if state.serving == candidate:
            if state.candidate is not None or state.run_uri != plan.run_uri:
                self._remember(replace(state, candidate=None, run_uri=plan.run_uri), found)
            # an attempt may have been killed between the state and what follows from it
            self._serve(candidate)
            return "serving"
        self._check_all_ours()
        self._remember(replace(state, candidate=candidate, run_uri=plan.run_uri), found)
        self._put(manifests.service(plan, role="canary"))
        self._try(candidate, replicas=1)
        return "canary"

    def promote(self) -> None:
        """Exchange the pods that everybody asks."""
        found = self.look()
        state = State.read(found)
        if state.candidate is None or state.run_uri != self.plan.run_uri:
            raise StageError(f"{self.plan.name}: another deployment has gone before this one")
        promoted = replace(state, serving=state.candidate, previous=state.serving, candidate=None)
        self._remember(promoted, found)
        self._serve(state.candidate)

    def finish(self) -> None:
        """End the pod that was tried."""
        state = State.read(self.look())
        if state.serving is not None:
            self._try(state.serving, replicas=0)

    def roll_back(self) -> str:
        """Return to what served before."""
        found = self.look()
        state = State.read(found)
        if found is None or state.run_uri != self.plan.run_uri:
            return "nothing of this night is there to be taken back"
        tried = state.candidate or state.serving or Served.nothing()
        after = replace(state, candidate=None, run_uri="")
        if state.candidate is None:
            after = replace(after, serving=state.previous, previous=None)
        former = after.serving
        if former is not None:
            self._serve(former)
        elif self.hook.get(DEPLOYMENT, self.plan.namespace, self.plan.name) is not None:
            self._put(self._deployment(tried, role="serving", replicas=0))
        self._try(tried, replicas=0)
        # last: until all is as before, a second attempt still finds what there is to take back
        self._remember(after, found)
        if former is None:
            return "nothing served before, so nothing serves now"
        return f"version {former.version} serves as before"

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

    def _remember(self, state: State, seen: dict[str, Any] | None) -> None:
        self.apply(manifests.service(self.plan, role="serving"), state, seen)

    def _serve(self, served: Served) -> None:
        plan = self.plan
        scaled = self.hook.serves(AUTOSCALER)
        fixed = None if scaled else plan.pipeline.deploy.replicas("deployment")
        self._put(self._deployment(served, role="serving", replicas=fixed))
        if scaled:
            self._put(manifests.autoscaler(plan))
        else:
            log.warning("autoscaling/v2 is not served here: %d pods, always", fixed)
        if self.hook.serves(DISRUPTION_BUDGET):
            self._put(manifests.disruption_budget(plan))
        else:
            log.warning("policy/v1 is not served here: no PodDisruptionBudget")

    def _try(self, served: Served, *, replicas: int) -> None:
        self._put(self._deployment(served, role="canary", replicas=replicas))

    def _deployment(self, served: Served, *, role: str, replicas: int | None) -> dict[str, Any]:
        return manifests.deployment(
            self.plan, served.spec, role=role, replicas=replicas, digest=served.digest
        )

    def _put(self, body: dict[str, Any]) -> None:
        self.apply(body, None, None)

    def _digest_of(self, found: dict[str, Any]) -> str:
        labels = found["spec"]["template"]["metadata"].get("labels") or {}
        return str(labels.get(DIGEST_LABEL, ""))

    def _pods(self, found: dict[str, Any]) -> list[dict[str, Any]]:
        labels = found["spec"]["template"]["metadata"]["labels"]
        keys = (*found["spec"]["selector"]["matchLabels"], DIGEST_LABEL)
        selector = ",".join(f"{key}={labels[key]}" for key in keys if key in labels)
        pods = self.hook.list_pods(self.plan.namespace, labels=selector)
        # those of an attempt before, which are about to end
        return [each for each in pods if "deletionTimestamp" not in each["metadata"]]


def servers_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is told of a pod's containers, those that only prepare it first."""
    status = pod.get("status") or {}
    return [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]


def refuses(server: dict[str, Any]) -> bool:
    """Tell whether a server has ended twice and more, and said why: it will again."""
    return int(server.get("restartCount") or 0) >= PATIENCE and bool(_end_of(server).get("message"))


def pods_trouble(pods: list[dict[str, Any]]) -> str:
    """Return why pods do not start, in a few words that begin with a colon; empty if they do."""
    for each in pods:
        name = each["metadata"]["name"]
        for server in servers_of(each):
            waiting, ended = (server.get("state") or {}).get("waiting") or {}, _end_of(server)
            reason = waiting.get("reason") or ""
            # a server that has just been started again is not what is wrong
            if reason in ("", "ContainerCreating", "PodInitializing"):
                reason = ended.get("reason") or ""
            if reason:
                words = [reason, ended.get("message") or waiting.get("message")]
                told = ": ".join(" ".join(str(word).split()) for word in words if word)
                return f": {name}: {told}"[:500]
        scheduled = condition(each, "PodScheduled")
        if scheduled.get("status") == "False":
            return f": {name}: {scheduled.get('message')}"[:500]
    return ""


def _end_of(server: dict[str, Any]) -> dict[str, Any]:
    """Return how a container ended last; empty when it has not."""
    for state in (server.get("state"), server.get("lastState")):
        if ended := (state or {}).get("terminated"):
            return dict(ended)
    return {}
