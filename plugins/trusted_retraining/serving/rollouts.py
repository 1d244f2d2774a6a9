"""Which way of serving a pipeline asks for."""

from tasks.contract import BadConfig
from trusted_retraining.hooks.kserve import KServeHook
from trusted_retraining.serving.kserve import KServeRollout
from trusted_retraining.serving.plain import PlainRollout
from trusted_retraining.serving.plan import Plan
from trusted_retraining.serving.rollout import Rollout

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
