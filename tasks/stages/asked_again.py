"""Predictions are the models' own: both are asked again, about images that nobody could foresee."""

import random
from typing import TYPE_CHECKING

from tasks.contract import Champion, RuleResult, StageError, is_bad_input
from tasks.gate import Evidence
from tasks.gate.recomputed import answers_on_record
from tasks.stages.base import StageContext
from tasks.stages.champion_files import champion_files
from tasks.stages.champion_saw import champion_saw

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from tasks.data import Arranged

ASKED = 32
"""Test images that a model is asked about again. Of a table with a share f of forged answers, a
sample of n shows at least one with probability 1 - (1 - f)^n: 0.81 for one in twenty, 0.97 for one
in ten."""


def judge_answers(
    context: StageContext, evidence: Evidence, champion: Champion | None
) -> list[RuleResult]:
    """Return a failing result for each model that answers otherwise than its predictions say.

    A figure that follows from a table says nothing of where the table came from. So the models are
    loaded from files that were hashed, and answer a few test images once more. Which ones is drawn
    anew each time, without a seed.

    Parameters
    ----------
    context : StageContext
        Of ``bless``.
    evidence : Evidence
        What the stages committed.
    champion : Champion or None
        Who serves.

    Returns
    -------
    list of RuleResult
        Empty when every answer comes out within ``deploy.tolerance``.

    Raises
    ------
    StageError, MemoryError
        Nothing can be said about the answers now: a store or a registry is out of reach.
    """
    if not {"arrange", "train", "evaluate"} <= evidence.manifests.keys():
        return []
    try:
        rows, arranged = answers_on_record(evidence, context.outputs)
    except Exception as error:
        return [_refusal("evaluate", f"its predictions cannot be read: {_said(error)}")]
    compared = rows["champion_probabilities"].notna().all()
    other = champion is not None and champion.digest != evidence.model_digest and bool(compared)
    results = []
    if champion is not None and other:
        try:
            problem = _left_out(context, arranged, rows, champion)
        except Exception as error:
            problem = f"it cannot be told what the champion was trained on: {_said(error)}"
        if problem:
            results.append(_refusal("evaluate", f"{problem}: run evaluate again"))
    drawn = random.SystemRandom().sample(range(len(rows)), min(ASKED, len(rows)))
    rows = rows.iloc[sorted(drawn)]
    asked = [("train", "probabilities", "the model")]
    if other:
        asked.append(("evaluate", "champion_probabilities", "the champion"))
    for metric, column, who in asked:
        try:
            folder = (
                champion_files(context, champion)
                if champion is not None and column == "champion_probabilities"
                else context.outputs(evidence.manifests["train"]).path("model/")
            )
            problem = _difference(context, arranged, rows, column, folder)
        except Exception as error:  # a model that cannot be asked has no predictions
            problem = f"cannot be asked again: {_said(error)}"
        if problem:
            results.append(_refusal(metric, f"{who} {problem}: run evaluate again"))
    return results


def _said(error: Exception) -> str:
    """Return what is wrong with the evidence; what may be right at the next attempt is raised."""
    if isinstance(error, StageError):
        if not is_bad_input(error.exit_code):
            raise error
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        raise error
    return f"{type(error).__name__}: {error}"


def _refusal(metric: str, reason: str) -> RuleResult:
    return RuleResult(
        metric=metric, bound="must answer as its predictions say", passed=False, reason=reason
    )


def _left_out(
    context: StageContext, arranged: "Arranged", rows: "pd.DataFrame", champion: Champion
) -> str:
    """Return how the rows that the comparison leaves out are not those that the champion saw."""
    from tasks.training.metrics import Measured

    saw = champion_saw(context, *champion, arranged, Measured())
    told = [
        None if value is None or value != value else bool(value) for value in rows["champion_saw"]
    ]
    same = told == ([None] * len(rows) if saw is None else saw.told())
    return (
        ""
        if same
        else (
            "predictions.parquet leaves other test images out of the comparison with the "
            "champion than those that it was trained on"
        )
    )


def _difference(
    context: StageContext, arranged: "Arranged", rows: "pd.DataFrame", column: str, folder: "Path"
) -> str:
    """Return how a model's answers differ from those in a column."""
    import numpy as np

    from tasks.native_log import import_tensorflow

    import_tensorflow()
    from tasks.training.prediction import SavedClassifier

    given = np.stack([np.asarray(each, np.float32) for each in rows[column]])
    found = SavedClassifier(folder).predict(
        arranged.read_bytes(rows), batch_size=context.pipeline.evaluate.batch_size
    )
    if found.shape != given.shape:
        return f"gives {found.shape[1]} numbers an image, not {given.shape[1]}"
    apart = np.abs(found - given).max(axis=1)
    wrong = np.flatnonzero(~(apart <= context.pipeline.deploy.tolerance))
    if not len(wrong):
        return ""
    names = ", ".join(rows["image_id"].iloc[wrong[:5]])
    return (
        f"answers {len(wrong)} of {len(rows)} test images otherwise than predictions.parquet says, "
        f"by up to {float(np.nanmax(apart)):.3g} where deploy.tolerance is "
        f"{context.pipeline.deploy.tolerance:g} ({names})"
    )
