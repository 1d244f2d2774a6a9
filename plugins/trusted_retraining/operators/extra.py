"""Stages that somebody else wrote, under the same contract as our own."""

from collections.abc import Mapping
from typing import Any

from trusted_retraining.operators.local import LocalStageOperator
from trusted_retraining.operators.stage import StageMixin
from trusted_retraining.settings import Runtime


class ExtraStageMixin(StageMixin):
    """Knows the command of an extra stage; a runtime's class puts it first."""

    def stage_arguments(self, context: Mapping[str, Any]) -> list[str]:
        """Return the arguments after ``python -m tasks``."""
        return ["extra", *super().stage_arguments(context)]

    def by_hand(self, context: Mapping[str, Any]) -> str:
        """Return a short command line with which a person runs this very stage again."""
        return super().by_hand(context).replace(" -m tasks ", " -m tasks extra ", 1)


class LocalExtraOperator(ExtraStageMixin, LocalStageOperator):
    """Run the command of an extra stage as a child process."""


def extra_operator(runtime: Runtime) -> Any:
    """Return the operator class of the extra stages.

    Parameters
    ----------
    runtime : {"local", "kubernetes", "eks"}
        Where stages run.
    """
    if runtime == "local":
        return LocalExtraOperator
    # imported late: the providers take seconds, for which a machine without a cluster need not wait
    from trusted_retraining.operators import extra_pod

    return extra_pod.ExtraEksPodOperator if runtime == "eks" else extra_pod.ExtraPodOperator
