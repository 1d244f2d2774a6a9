"""What serves on the cluster now, for the stages whose pods have no token to look."""

from tasks.contract import Champion
from tasks.spec import Pipeline
from trusted_retraining.hooks.kserve import KServeHook, kserve_hook
from trusted_retraining.serving.plan import OURS, STATE, Plan, State
from trusted_retraining.serving.rollout import Rollout
from trusted_retraining.serving.rollouts import ROLLOUTS, rollout_of
from trusted_retraining.settings import Settings


def what_serves(pipeline: Pipeline, settings: Settings) -> Champion | None:
    """Return the version that serves; None when there is nothing of ours by that name.

    ``deploy.target`` may have changed since: an object of the other kind that holds our record
    still serves.

    Parameters
    ----------
    pipeline : Pipeline
        The run's, overrides applied.
    settings : Settings
        The installation's settings.

    Raises
    ------
    StageError
        The cluster cannot be reached or refuses, or its record cannot be read. That is never taken
        for "nothing serves".
    """
    plan = Plan(
        model=pipeline.model_name,
        version="",
        digest="",
        model_uri="",
        run_uri="",
        pipeline=pipeline,
        settings=settings,
    )
    with kserve_hook(settings, settings.runtime_of(pipeline)) as hook:
        return serving_on(hook, plan)


def serving_on(hook: KServeHook, plan: Plan) -> Champion | None:
    """Return what :func:`what_serves` does, by a connection that is open already.

    Raises
    ------
    StageError
        As there.
    """
    own = rollout_of(hook, plan)
    state = own.look().state
    if state.serving is None:
        others = [kind(hook, plan) for kind in ROLLOUTS.values() if kind is not type(own)]
        states = [_state_elsewhere(hook, other) for other in others]
        state = next((each for each in states if each.serving is not None), state)
    serving = state.serving
    return None if serving is None else Champion(serving.version, serving.digest)


def _state_elsewhere(hook: KServeHook, other: Rollout) -> State:
    """Return the state in an object of another kind, which may well be somebody else's."""
    found = hook.get(other.resource, other.plan.namespace, other.plan.name)
    if found is None:
        return State()
    metadata = found["metadata"]
    ours = OURS.items() <= (metadata.get("labels") or {}).items()
    # what a controller makes has labels and annotations of the object that it was made for
    made_for_another = any(each.get("controller") for each in metadata.get("ownerReferences") or [])
    if made_for_another or not (ours or STATE in (metadata.get("annotations") or {})):
        return State()
    other.check_ours(found)
    return other.seen(found).state
