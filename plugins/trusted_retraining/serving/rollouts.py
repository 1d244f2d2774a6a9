"""Which way of serving a pipeline asks for."""

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.contract import BadConfig, Publication
from tasks.spec import Pipeline
from trusted_retraining.hooks.kserve import KServeHook, kserve_hook
from trusted_retraining.serving.kserve import KServeRollout
from trusted_retraining.serving.plain import PlainRollout
from trusted_retraining.serving.plan import Plan
from trusted_retraining.serving.rollout import Rollout
from trusted_retraining.settings import Settings

ROLLOUTS: dict[str, type[Rollout]] = {"kserve": KServeRollout, "deployment": PlainRollout}


def rollout_of(hook: KServeHook, plan: Plan) -> Rollout:
    """Return the rollout of ``deploy.target``.

    Raises
    ------
    BadConfig
        The target is this machine, which a cluster's stages cannot deploy to.
    """
    target = plan.pipeline.deploy.cluster_target
    if target not in ROLLOUTS:
        raise BadConfig(
            f"deploy.target: {target!r} is for stages that run on this machine; a cluster takes "
            f"{' or '.join(ROLLOUTS)}"
        )
    return ROLLOUTS[target](hook, plan)


@contextmanager
def opened_rollout(
    publication: str, *, run_uri: str, pipeline: Pipeline, settings: Settings
) -> Iterator[Rollout]:
    """Yield the rollout of what a task has handed on, without a look at the night's folder.

    Parameters
    ----------
    publication : str
        Name, version, digest and place of the model as JSON.
    run_uri : str
        The night.
    pipeline : Pipeline
        The night's, overrides applied.
    settings : Settings
        The installation's settings.
    """
    plan = Plan.of(
        Publication.model_validate_json(publication),
        run_uri=run_uri,
        pipeline=pipeline,
        settings=settings,
    )
    with kserve_hook(settings, settings.runtime_of(pipeline)) as hook:
        yield rollout_of(hook, plan)
