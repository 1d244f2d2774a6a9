"""What ``publish`` and ``deploy`` need of the stages before them: a verdict and known answers."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.contract import BadConfig, BadInput, NoInput, Verdict
from tasks.registry_owner import foreign_model
from tasks.stages.base import StageContext

if TYPE_CHECKING:
    from tasks.serving.client import KnownAnswer


def blessed_verdict(context: StageContext) -> Verdict:
    """Return the night's verdict, which blesses the very model that ``train`` committed.

    Raises
    ------
    StageError
        There is none, it refuses the model, it is on another one, or the registry that it names a
        version of is not to be seen from here.
    """
    verdict = context.run.read_verdict_in_force()
    if verdict is None:
        raise NoInput(
            f"{context.run.stage_uri('bless')} holds no readable verdict: run 'bless' first"
        )
    if not verdict.may_serve:
        raise BadInput(verdict.refusal)
    if context.not_deployed:
        # whatever rules the verdict was given under, this stage was told others
        raise BadInput(f"{verdict.model.name}: {context.not_deployed}")
    if verdict.model.name != context.pipeline.model_name:
        raise BadInput(
            f"the verdict is on model {verdict.model.name!r}, but deploy.model_name is "
            f"{context.pipeline.model_name!r}: run stage 'bless' again"
        )
    if foreign := foreign_model(context.environment, context.pipeline):
        raise BadInput(foreign)
    trained = context.input("train").manifest.output("model/").sha256
    if verdict.model.digest != trained:
        raise BadInput(
            f"the verdict is on model {verdict.model.digest[:12]}, but train committed "
            f"{trained[:12]}: run stage 'bless' again"
        )
    if context.environment.mlflow_uri and not verdict.model.version:
        raise BadInput(
            f"{verdict.model.name}: the verdict names no registered version, so none could become "
            "the champion: run stage 'bless' again"
        )
    if verdict.model.version and not context.environment.mlflow_uri:
        # what serves would change, and the registry's champion would not
        raise BadConfig(
            f"{verdict.model.name}: the verdict is on version {verdict.model.version} of a "
            "registry, but MLFLOW_TRACKING_URI is not set: set it as it was for 'bless', or run "
            "stage 'bless' again without a registry"
        )
    return verdict


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
