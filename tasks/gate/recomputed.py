"""The figures that a verdict rests on, computed once more from the files that were hashed."""

import io
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.contract import BadInput, Manifest, RuleResult, StageError
from tasks.gate.evidence import Evidence
from tasks.spec import Pipeline

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from tasks.data import Arranged
    from tasks.data.arranged import CommittedOutputs

log = logging.getLogger("tasks")

TOLERANCE = 1e-6
"""Largest difference of a figure that is taken for rounding."""

_SHOWN = 5

_OF_THE_CHAMPION = frozenset({"champion_probabilities", "champion_saw"})

Open = Callable[[Manifest], "CommittedOutputs"]


def judge_figures(evidence: Evidence, pipeline: Pipeline, outputs: Open) -> list[RuleResult]:
    """Return a failing result for each stage whose figures do not follow from the predictions.

    Recomputed are all figures of ``evaluate`` and of ``fairness``, with their intervals: resampling
    is seeded, so the same rows give the same ends.

    Parameters
    ----------
    evidence : Evidence
        What the stages committed.
    pipeline : Pipeline
        The night's pipeline.
    outputs : callable
        Returns the committed outputs that a manifest names.

    Returns
    -------
    list of RuleResult
        Empty when every figure comes out as it was committed.
    """
    if not {"arrange", "evaluate"} <= evidence.manifests.keys():
        return []
    try:
        rows, arranged = answers_on_record(evidence, outputs)
    except Exception as error:
        return [_refusal("evaluate", _reason(error))]
    results = []
    for stage, figures in (("evaluate", _evaluation), ("fairness", _fairness)):
        manifest = evidence.manifests.get(stage)
        if manifest is None:
            continue
        try:
            problem = _differences(manifest, figures(rows, arranged, pipeline))
        except Exception as error:
            problem = _reason(error)
        if problem:
            results.append(_refusal(stage, f"{problem}: run {stage} again"))
    return results


def _reason(error: Exception) -> str:
    # evidence that nobody can compute with is no evidence, whatever is wrong with it
    if isinstance(error, StageError):
        return str(error)
    log.warning("bless: the figures cannot be computed: %s: %s", type(error).__name__, error)
    return f"the figures cannot be computed from the predictions: {type(error).__name__}: {error}"


def _refusal(stage: str, reason: str) -> RuleResult:
    return RuleResult(
        metric=stage, bound="must follow from the predictions", passed=False, reason=reason
    )


def answers_on_record(evidence: Evidence, outputs: Open) -> "tuple[pd.DataFrame, Arranged]":
    """Return the test rows with the predictions, which must be those of these very images.

    Parameters
    ----------
    evidence : Evidence
        With ``arrange`` and ``evaluate``.
    outputs : callable
        Returns the committed outputs that a manifest names.

    Raises
    ------
    BadInput
        The predictions are of other images, or contradict themselves or the arrangement.
    """
    import numpy as np
    import pandas as pd

    from tasks.data import Arranged

    arranged = Arranged(outputs(evidence.manifests["arrange"]))
    table = arranged.table("test")
    raw = outputs(evidence.manifests["evaluate"]).read("predictions.parquet")
    given = pd.read_parquet(io.BytesIO(raw))
    if not given["image_id"].is_unique or set(given["image_id"]) != set(table["image_id"]):
        raise BadInput(
            f"predictions.parquet holds answers to {len(given)} images, which are not the "
            f"{len(table)} test images of the arrangement: run evaluate again"
        )
    given = given.set_index("image_id").loc[list(table["image_id"])].reset_index()
    answers = _stacked(given["probabilities"], len(arranged.classes))
    for name, expected in (
        ("class_index", table["class_index"].to_numpy()),
        ("predicted_index", answers.argmax(axis=1)),
        ("correct", answers.argmax(axis=1) == table["class_index"].to_numpy()),
    ):
        wrong = np.flatnonzero(given[name].to_numpy() != expected)
        if len(wrong):
            names = ", ".join(given["image_id"].iloc[wrong[:_SHOWN]])
            raise BadInput(
                f"predictions.parquet: {name} of {len(wrong)} of {len(table)} test images is not "
                f"what images.parquet and the probabilities say ({names}): run evaluate again"
            )
    _check_champion(given, len(arranged.classes))
    given = given.reindex(columns=[*given.columns, *_OF_THE_CHAMPION.difference(given.columns)])
    added = ["predicted_index", "probabilities", "correct", *sorted(_OF_THE_CHAMPION)]
    rows = table.drop(columns=added, errors="ignore")
    return rows.assign(**{name: given[name] for name in added}), arranged


def _check_champion(given: "pd.DataFrame", classes: int) -> None:
    """The champion's classes, which the comparison reads, are those of its probabilities."""
    import numpy as np

    told = [name for name in given.columns if name.startswith("champion_p")]
    filled = {name: bool(given[name].notna().all()) for name in told}
    if not any(given[name].notna().any() for name in told):
        return
    if not filled.get("champion_probabilities") or not filled.get("champion_predicted_index"):
        raise BadInput(
            "predictions.parquet: some answers of the champion are missing: run evaluate again"
        )
    theirs = _stacked(given["champion_probabilities"], classes).argmax(axis=1)
    wrong = np.flatnonzero(given["champion_predicted_index"].to_numpy() != theirs)
    if len(wrong):
        raise BadInput(
            f"predictions.parquet: champion_predicted_index of {len(wrong)} of {len(given)} test "
            "images is not what the champion's probabilities say: run evaluate again"
        )


def _stacked(column: "pd.Series[Any]", classes: int) -> "NDArray[np.float32]":
    import numpy as np

    answers = np.stack([np.asarray(each, np.float32) for each in column])
    if answers.shape[1:] != (classes,) or not np.isfinite(answers).all():
        raise BadInput(
            f"predictions.parquet: its answers are not {classes} numbers an image: run evaluate "
            "again"
        )
    return answers


def _evaluation(rows: "pd.DataFrame", arranged: "Arranged", pipeline: Pipeline) -> dict[str, float]:
    import numpy as np

    from tasks.training.metrics import bootstrap_intervals, measure

    truth = rows["class_index"].to_numpy(np.int64)
    known: dict[str, Any] = {
        "classes": arranged.classes,
        "positive_index": arranged.positive_index,
    }
    own = _stacked(rows["probabilities"], len(arranged.classes))
    figures = dict(measure(truth, own, **known).metrics)
    intervals = bootstrap_intervals(
        truth,
        rows["predicted_index"].to_numpy(np.int64),
        list(rows["group_key"]),
        classes=len(arranged.classes),
        resamples=pipeline.evaluate.bootstrap,
        confidence=pipeline.evaluate.confidence,
        seed=0,
    )
    for name, (low, high) in intervals.items():
        figures |= {f"{name}.low": low, f"{name}.high": high}
    if rows["champion_probabilities"].notna().all():
        theirs = _stacked(rows["champion_probabilities"], len(arranged.classes))
        # rows that the champion was trained on are left out of the comparison
        new = ~rows["champion_saw"].fillna(False).to_numpy(bool)
        if new.any():
            of_champion = measure(truth[new], theirs[new], **known).metrics
            for name in ("accuracy", "balanced_accuracy"):
                figures[f"champion.{name}"] = of_champion[name]
    return figures


def _fairness(rows: "pd.DataFrame", arranged: "Arranged", pipeline: Pipeline) -> dict[str, float]:
    from tasks.trust.attributes import examine_attribute

    figures: dict[str, float] = {}
    for attribute in pipeline.fairness.protected:
        report, frame = examine_attribute(pipeline, arranged, rows, attribute)
        name = attribute.attribute
        for key, found in report.metrics.items():
            figures |= found.named(f"{name}.{key}")
        for key, found in frame.metrics.items():
            figures |= found.named(f"{name}.fairlearn.{key}")
    return figures


def _differences(manifest: Manifest, figures: Mapping[str, float]) -> str:
    """Return how what a stage claims differs from what was computed."""
    for metric, claimed in manifest.metrics.items():
        name = metric.removeprefix(f"{manifest.stage}.")
        found = figures.get(name)
        said = f"{metric} is {claimed:.6g} in the manifest, but"
        if found is not None and not abs(claimed - found) <= TOLERANCE:
            return f"{said} the predictions give {found:.6g}"
        if found is None:
            return f"{said} does not follow from the predictions"
    return ""
