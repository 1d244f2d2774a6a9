"""Which stages a night has: our own, and the extra ones of its pipeline file."""

from collections.abc import Sequence

from pydantic import ValidationError

from tasks.contract.errors import STAGES
from tasks.contract.run_directory import RunDirectory
from tasks.spec import ExtraStage, Pipeline, after_verdict, in_order


def stage_names(extras: Sequence[ExtraStage]) -> tuple[str, ...]:
    """Return the names of all stages of a night, in order.

    Parameters
    ----------
    extras : sequence of ExtraStage
        The pipeline's. Those that count for the verdict come before ``bless``, the others before
        ``report``.
    """
    ordered = in_order(extras)
    late = after_verdict(ordered)
    names: list[str] = []
    for name in STAGES:
        if name == "bless":
            names += [extra.name for extra in ordered if extra.name not in late]
        if name == "report":
            names += [extra.name for extra in ordered if extra.name in late]
        names.append(name)
    return tuple(names)


def judged_stages(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the stages that must have succeeded before a model may be blessed.

    Parameters
    ----------
    pipeline : Pipeline
        The night's pipeline.
    """
    names = stage_names(pipeline.extra_stages)
    return names[: names.index("bless")]


def extras_of(run: RunDirectory) -> list[ExtraStage]:
    """Return the extra stages of a run as its pipeline was recorded; none if it is unreadable."""
    document = run.read_json("pipeline.json")
    entries = document.get("extra_stages") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return []
    try:
        return in_order([ExtraStage.model_validate(entry) for entry in entries])
    except (ValidationError, ValueError):
        return []


def stages_of(run: RunDirectory) -> tuple[str, ...]:
    """Return the names of all stages of a run, in order."""
    return stage_names(extras_of(run))
