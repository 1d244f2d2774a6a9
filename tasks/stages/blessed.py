"""What ``publish`` and ``deploy`` need of the stages before them: a verdict and known answers."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.contract import BadInput, Verdict, read_blessing
from tasks.registry_owner import foreign_model
from tasks.stages.base import StageContext

if TYPE_CHECKING:
    from tasks.serving.client import KnownAnswer


def blessed_verdict(context: StageContext) -> Verdict:
    """Return the night's verdict, which blesses the very model that ``train`` committed.

    Raises
    ------
    StageError
        There is none, it refuses the model, it is on another one, the registry that it names a
        version of is not to be seen from here, or what this stage reads is not what was judged.
    """
    environment, pipeline = context.environment, context.pipeline
    verdict = read_blessing(
        context.run,
        model_name=pipeline.model_name,
        not_deployed=context.not_deployed,
        foreign=lambda: foreign_model(environment, pipeline),
        has_registry=bool(environment.mlflow_uri),
        judged=context.judged,
    )
    _check_judged(context)
    return verdict


def _check_judged(context: StageContext) -> None:
    """Refuse what was replaced since the task's operator has asked the other tasks: a pod may wait
    for hours before it reads."""
    if not context.judged:
        return
    bless = context.input("bless").manifest
    judged = bless.inputs | {"bless": context.judged}
    for name, found in context.read.items():
        if found.digest != judged.get(name):
            raise BadInput(
                f"{context.run.stage_uri(name)} holds another result than the verdict was given "
                f"on: run {name!r} and the stages after it again"
            )


def version_of(verdict: Verdict) -> str:
    """Return under which version the model is served; made from the digest without a registry."""
    return verdict.model.version or f"digest-{verdict.model.digest[:12]}"


def known_answers(context: StageContext) -> "Sequence[KnownAnswer]":
    """Return test images in turn from every class, with their offline predictions."""
    import pandas as pd

    from tasks.data import Arranged
    from tasks.serving.client import KnownAnswer

    predictions = pd.read_parquet(
        io.BytesIO(context.input("evaluate").read("predictions.parquet")),
        columns=["image_id", "class_index", "probabilities"],
    )
    arranged = Arranged(context.input("arrange"))
    rows = arranged.table("test")
    chosen = predictions[predictions["image_id"].isin(rows["image_id"])].sort_values("image_id")
    turn = chosen.groupby("class_index").cumcount()
    chosen = chosen.assign(turn=turn).sort_values(["turn", "class_index"])
    chosen = chosen.head(context.pipeline.deploy.known_answers)
    expected = dict(zip(chosen["image_id"], chosen["probabilities"], strict=True))
    rows = rows[rows["image_id"].isin(expected)]
    return [
        KnownAnswer(
            image_id=str(image_id),
            image=image,
            probabilities=tuple(float(each) for each in expected[image_id]),
        )
        for image_id, image in zip(rows["image_id"], arranged.read_bytes(rows), strict=True)
    ]
