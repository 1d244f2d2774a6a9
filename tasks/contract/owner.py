"""Whose a registered model is: the sentences that both sides say of it."""

from collections.abc import Mapping
from typing import NamedTuple

PIPELINE_TAG = "pipeline"
"""Tag of a version with the name of the pipeline that made it."""


class Owner(NamedTuple):
    """Whose a model is.

    Attributes
    ----------
    pipeline : str
        Name of the pipeline; empty when nothing says.
    said_by : str
        Which record says it.
    correct_by : str
        How a person puts that right; ``{name}`` is the other pipeline's name.
    """

    pipeline: str = ""
    said_by: str = ""
    correct_by: str = ""


def owner_by_tags(version: str, tags: Mapping[str, str]) -> Owner | None:
    """Return whose a model is by the tags of a version; None when they do not say."""
    if not tags.get(PIPELINE_TAG):
        return None
    return Owner(
        tags[PIPELINE_TAG],
        f"tag {PIPELINE_TAG!r} of version {version}",
        "set that tag to {name!r} in MLflow",
    )


def foreign_to(pipeline: str, owner: Owner, *, model: str) -> str:
    """Return why a pipeline must leave a model alone; empty when it is its own or nobody's."""
    if owner.pipeline in ("", pipeline):
        return ""
    return (
        f"registered model {model!r} belongs to pipeline {owner.pipeline!r} ({owner.said_by}), not "
        f"to {pipeline!r}: give a deploy.model_name of its own; if {owner.pipeline!r} is this "
        f"pipeline's former name, {owner.correct_by.format(name=pipeline)}"
    )
