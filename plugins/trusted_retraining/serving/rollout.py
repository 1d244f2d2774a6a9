"""What a way of serving has to offer, whatever its objects are."""

import abc
import logging
from typing import Any, Literal

from tasks.contract import BadConfig, StageError, is_bad_input
from trusted_retraining.hooks.kserve import FieldConflict, KServeHook, StaleObject
from trusted_retraining.hooks.resources import Resource, resource_of
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
"""Times that a change is tried while controllers keep writing into the same object."""


class Rollout(abc.ABC):
    """Moves one version into service, step by step.

    Every step may be repeated: it looks at what is there, not at what was done. So a second attempt
    goes on wherever the first was killed.
    """

    resource: Resource
    """Kind of the object that holds the state."""

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

    def look(self) -> dict[str, Any] | None:
        """Return the object that holds the state.

        Raises
        ------
        BadConfig
            It is there, but not ours.
        """
        plan = self.plan
        found = self.hook.get(self.resource, plan.namespace, plan.name)
        if found is not None:
            self.check_ours(found)
        return found

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
        return State.read(self.look()).serving == self.wanted()

    def already_serves(self) -> bool:
        """Tell whether it also is ready, with nothing under way: there is nothing to do."""
        state = State.read(self.look())
        return (
            state.serving == self.wanted()
            and state.candidate is None
            and self.up_to_date()
            and self.readiness("serving").ready
        )

    def taken_over(self) -> bool:
        """Tell whether this night's deployment was taken back, or another has gone before it."""
        return State.read(self.look()).run_uri != self.plan.run_uri

    def apply(self, body: dict[str, Any], state: State | None, seen: dict[str, Any] | None) -> None:
        """Apply an object to the very state of it that was seen.

        Parameters
        ----------
        body : dict
            All that is ours of it.
        state : State or None
            Goes into its annotation; None for objects that hold none.
        seen : dict or None
            The object when the decision was taken. Controllers may have written into it since;
            another deployment may not.

        Raises
        ------
        StageError
            Someone else has changed what the decision was about.
        """
        resource = resource_of(body["kind"])
        metadata = body["metadata"]
        if state is None:
            there = self.hook.get(resource, self.plan.namespace, metadata["name"])
            if there is not None:
                self.check_ours(there)
        if state is not None:
            metadata = metadata | {
                "annotations": metadata.get("annotations", {}) | {STATE: state.to_json()}
            }
        for _ in range(STALE_ATTEMPTS):
            guarded = metadata
            if seen is not None and state is not None:
                version = seen["metadata"]["resourceVersion"]
                guarded = metadata | {"resourceVersion": version}
            try:
                self._take(resource, body | {"metadata": guarded})
                return
            except StaleObject:
                now = self.hook.get(resource, self.plan.namespace, metadata["name"])
                if State.read(now) != State.read(seen):
                    raise StageError(
                        f"{resource.kind} {self.plan.name}: another deployment changed it at the "
                        "same time"
                    ) from None
                seen = now
        raise StageError(f"{resource.kind} {self.plan.name}: keeps changing while it is applied")

    def _take(self, resource: Resource, body: dict[str, Any]) -> None:
        try:
            self.hook.apply(resource, self.plan.namespace, body, force=False)
        except FieldConflict as conflict:
            # the object is ours, and so is every field in the body: whoever edited one by hand is
            # overruled, but not in silence
            log.warning("taking back %s", conflict)
            self.hook.apply(resource, self.plan.namespace, body, force=True)


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of an object's status; an empty one when it is not told."""
    for each in (found.get("status") or {}).get("conditions") or []:
        if each.get("type") == kind:
            return dict(each)
    return {}
