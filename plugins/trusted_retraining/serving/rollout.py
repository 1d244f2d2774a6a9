"""What a way of serving has to offer, whatever its objects are."""

import abc
import logging
from dataclasses import dataclass
from typing import Any, Literal

from tasks.contract import BadConfig, StageError, is_bad_input
from trusted_retraining.hooks.kserve import FieldConflict, KServeHook, StaleObject
from trusted_retraining.hooks.resources import CONFIG_MAP, Resource, resource_of
from trusted_retraining.serving.plan import (
    MODEL_LABEL,
    OURS,
    STATE,
    Endpoint,
    Plan,
    Readiness,
    Served,
    State,
)

log = logging.getLogger("trusted_retraining.serving")

Phase = Literal["canary", "serving"]
"""``canary``: the version has to prove itself. ``serving``: it gets every request."""

STALE_ATTEMPTS = 10
"""Times that a record is written while somebody else writes into the same ConfigMap."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is there.

    Attributes
    ----------
    found : dict or None
        The object that serves.
    state : State
        What has been done to it.
    record : dict or None
        The ConfigMap that says so.
    """

    found: dict[str, Any] | None
    state: State
    record: dict[str, Any] | None


class Rollout(abc.ABC):
    """Moves one version into service, step by step.

    A step writes into a ConfigMap what is to be, and then makes it so. Every step may be repeated:
    it looks at what is there, not at what was done. So a second attempt goes on wherever the first
    was killed.
    """

    resource: Resource
    """Kind of the object that serves."""
    record: str
    """End of the ConfigMap's name."""

    def __init__(self, hook: KServeHook, plan: Plan) -> None:
        self.hook = hook
        self.plan = plan

    @abc.abstractmethod
    def wanted(self) -> Served:
        """Return the version with the settings that it is to be served with."""

    @abc.abstractmethod
    def begin(self) -> Phase:
        """Start the version beside what serves; return how far an earlier attempt had come."""

    @abc.abstractmethod
    def carry_out(self, state: State, seen: Seen) -> dict[str, Any]:
        """Make a state so; return the object that serves."""

    @abc.abstractmethod
    def readiness(self, phase: Phase) -> Readiness:
        """Tell whether the version can be asked."""

    @abc.abstractmethod
    def endpoint(self, phase: Phase) -> Endpoint:
        """Return where to ask the version: alone as a canary, as everybody does when it serves."""

    @abc.abstractmethod
    def promote(self) -> None:
        """Give the version every request."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Tidy up once the version serves and has proved it."""

    @abc.abstractmethod
    def roll_back(self) -> str:
        """Return to what served before this night; tell what serves now. Twice is as good as once.

        Raises
        ------
        StageError
            The cluster refuses, or cannot be reached.
        """

    def look_patiently(self, phase: Phase) -> Readiness:
        """Tell whether the version can be asked; a cluster out of reach is no reason to give up."""
        try:
            return self.readiness(phase)
        except StageError as error:
            hopeless = is_bad_input(error.exit_code)
            return Readiness(ready=False, reason=str(error), hopeless=hopeless)

    def up_to_date(self) -> bool:
        """Tell whether what stands beside the version's pods is as it is to be."""
        return True

    def look(self) -> Seen:
        """Return what is there.

        Raises
        ------
        BadConfig
            The object or its record is not ours, or there is an object and no record.
        """
        plan = self.plan
        found = self.hook.get(self.resource, plan.namespace, plan.name)
        if found is not None:
            self.check_ours(found)
        return self.seen(found)

    def seen(self, found: dict[str, Any] | None) -> Seen:
        """Return what is there beside an object that was found.

        Raises
        ------
        BadConfig
            As :meth:`look` does.
        """
        record = self.hook.get(CONFIG_MAP, self.plan.namespace, self._record_name)
        if record is not None:
            self.check_ours(record)
        if found is None:
            # whoever removed it took out of service what the record is about
            return Seen(found=None, state=State(), record=record)
        owners = (record or {}).get("metadata", {}).get("ownerReferences") or []
        if record is not None and all(e["uid"] == found["metadata"]["uid"] for e in owners):
            text = (record.get("data") or {}).get("state")
        else:
            text = (found["metadata"].get("annotations") or {}).get(STATE)
        where = f"{self.resource.kind} {self.plan.name}: its record, ConfigMap {self._record_name},"
        return Seen(found=found, state=State.of(text, where), record=record)

    def check_ours(self, found: dict[str, Any]) -> None:
        """Refuse an object that someone else has made, or that serves another model."""
        plan = self.plan
        what = f"{found.get('kind', self.resource.kind)} {plan.namespace}/"
        what += found["metadata"]["name"]
        labels = found["metadata"].get("labels") or {}
        if not OURS.items() <= labels.items():
            raise BadConfig(
                f"{what}: exists and is not ours, so it is left alone: remove it, or set "
                "deploy.model_name"
            )
        if labels.get(MODEL_LABEL, plan.model) != plan.model:
            raise BadConfig(
                f"{what}: serves model {labels[MODEL_LABEL]!r}, not {plan.model!r}: set "
                "deploy.model_name"
            )

    def serves(self) -> bool:
        """Tell whether this version, with these settings, was given every request."""
        return self.look().state.serving == self.wanted()

    def already_serves(self) -> bool:
        """Tell whether it also is ready, with nothing under way: there is nothing to do."""
        state = self.look().state
        return (
            state.serving == self.wanted()
            and state.candidate is None
            and not state.unconfirmed
            and self.up_to_date()
            and self.readiness("serving").ready
        )

    def taken_over(self) -> bool:
        """Tell whether this night's deployment was taken back, or another has gone before it."""
        return self.look().state.run_uri != self.plan.run_uri

    def move(self, state: State, seen: Seen) -> None:
        """Write down what is to be, and make it so.

        Parameters
        ----------
        state : State
            What is to be.
        seen : Seen
            What the decision was taken on.

        Raises
        ------
        StageError
            Someone else has changed what the decision was about, or the cluster refuses.
        """
        # before the object: whoever comes after a kill in between finds what was meant
        record = self.write(state, seen)
        found = self.carry_out(state, seen)
        if not record["metadata"].get("ownerReferences"):
            # removed with the object, so that it never speaks for another one
            self.write(state, Seen(found=found, state=state, record=record))

    def take_away(self, state: State, seen: Seen) -> None:
        """Make so what is to be, and write it down last: until what is to go has gone, a second
        attempt still finds it."""
        found = self.carry_out(state, seen)
        self.write(state, Seen(found=found, state=seen.state, record=seen.record))

    def write(self, state: State, seen: Seen) -> dict[str, Any]:
        """Write the record over the very one that was seen, and return the ConfigMap.

        Raises
        ------
        StageError
            Another deployment has written into it.
        """
        plan, there = self.plan, seen.record
        metadata: dict[str, Any] = {
            "name": self._record_name,
            "namespace": plan.namespace,
            "labels": plan.labels,
        }
        if seen.found is not None:
            metadata["ownerReferences"] = [owner(seen.found)]
        body = {
            "apiVersion": CONFIG_MAP.api_version,
            "kind": CONFIG_MAP.kind,
            "metadata": metadata,
            "data": {"state": state.to_json()},
        }
        for _ in range(STALE_ATTEMPTS):
            guarded = dict(metadata)
            if there is not None:
                guarded["resourceVersion"] = there["metadata"]["resourceVersion"]
            try:
                return self._take(CONFIG_MAP, body | {"metadata": guarded})
            except StaleObject:
                now = self.hook.get(CONFIG_MAP, plan.namespace, self._record_name)
                if now is None or there is None or now.get("data") != there.get("data"):
                    raise StageError(
                        f"{self.resource.kind} {plan.name}: another deployment changed it at the "
                        "same time"
                    ) from None
                there = now
        raise StageError(f"ConfigMap {self._record_name}: keeps changing while it is written")

    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        """Apply an object, and return it; one of somebody else's is left alone."""
        resource, name = resource_of(body["kind"]), body["metadata"]["name"]
        there = self.hook.get(resource, self.plan.namespace, name)
        if there is not None:
            self.check_ours(there)
        return self._take(resource, body)

    @property
    def _record_name(self) -> str:
        return f"{self.plan.name}-{self.record}"

    def _take(self, resource: Resource, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.hook.apply(resource, self.plan.namespace, body, force=False)
        except FieldConflict as conflict:
            # the object is ours, and so is every field in the body: whoever edited one by hand is
            # overruled, but not in silence
            log.warning("taking back %s", conflict)
            return self.hook.apply(resource, self.plan.namespace, body, force=True)


def owner(found: dict[str, Any]) -> dict[str, str]:
    """Return the reference to an object with which another one is removed, too."""
    resource = resource_of(found["kind"])
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": found["metadata"]["name"],
        "uid": found["metadata"]["uid"],
    }


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of an object's status; an empty one when it is not told."""
    for each in (found.get("status") or {}).get("conditions") or []:
        if each.get("type") == kind:
            return dict(each)
    return {}
