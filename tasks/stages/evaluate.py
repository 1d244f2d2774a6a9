"""The stage that measures the exported model on the test rows."""

import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tasks.contract import Champion, Disagreement
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext
from tasks.stages.champion_answers import champion_answers, own_digest
from tasks.stages.champion_saw import champion_saw
from tasks.stages.who_serves import who_serves

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from tasks.data import Arranged
    from tasks.training.metrics import Measured

log = logging.getLogger("tasks")

_SELF = "self"
"""State of a night whose challenger is the champion already: nothing new to compare with."""


class EvaluateStage(Stage):
    """Measures the exported model on the test rows, and has the champion answer the same rows.

    The SavedModel is asked with the bytes of the image files, as it will be in service. The
    predictions of challenger and champion are kept, so that the checks that follow need no second
    inference.
    """

    name = "evaluate"
    uses_tensorflow = True
    reads = ("arrange", "train")
    produces = {
        "predictions.parquet": "test rows: truth, challenger's and champion's answer",
        "evaluation.json": "metrics, confusion matrix, champion",
        "confusion_matrix.png": "counts and shares of the true class",
        "curves.png": "loss and accuracy by epoch",
        "mistakes.png": "wrong answers that the model was surest of",
        "answers.png": "test images of every class with the answer and its confidence",
    }

    def config(self, pipeline: Pipeline) -> Any:
        """Return the section."""
        return {"evaluate": pipeline.evaluate.model_dump(mode="json")}

    def state(self, context: StageContext) -> str:
        """Return the champion's digest: another champion, another comparison."""
        try:
            champion = who_serves(context)
        except Disagreement as error:
            return str(error)
        if champion is None:
            return ""
        return _SELF if champion.digest == own_digest(context) else champion.digest

    def equivalent_states(self, context: StageContext) -> list[str]:
        """Let a night without new data, after a promotion, take over this result."""
        return [_SELF]

    def run(self, context: StageContext) -> Outcome:
        """Predict, measure, draw."""
        import numpy as np

        from tasks.data import Arranged
        from tasks.training.metrics import bootstrap_intervals, confusion_matrix, measure
        from tasks.training.plots import plot_confusion
        from tasks.training.prediction import SavedClassifier, write_predictions

        settings = context.pipeline.evaluate
        arranged = Arranged(context.input("arrange"))
        table = arranged.table("test")
        truth = table["class_index"].to_numpy(np.int64)
        classes, positive = arranged.classes, arranged.positive_index
        model = SavedClassifier(context.input("train").path("model/"))
        probabilities = model.predict(
            arranged.read_bytes(table), batch_size=settings.batch_size, total=len(table)
        )
        predicted = probabilities.argmax(axis=1)
        measured = measure(truth, probabilities, classes=classes, positive_index=positive)
        intervals = bootstrap_intervals(
            truth,
            predicted,
            list(table["group_key"]),
            classes=len(classes),
            resamples=settings.bootstrap,
            confidence=settings.confidence,
            seed=0,
        )
        for name, (low, high) in intervals.items():
            measured.metrics |= {f"{name}.low": low, f"{name}.high": high}
        log.info(
            "%d test images: accuracy %.4f, balanced accuracy %.4f, %s",
            len(table),
            measured.metrics["accuracy"],
            measured.metrics["balanced_accuracy"],
            measured.notes["least_recall"],
        )
        _warn_of_gap(context, measured)
        champion = _champion(context, measured)
        theirs = champion_answers(context, champion, probabilities, arranged, table, measured)
        saw = None
        if champion is not None and theirs is not None:
            saw = champion_saw(context, *champion, arranged, measured)
            new = slice(None) if saw is None else ~saw.rows
            if len(truth[new]):
                other = measure(
                    truth[new], theirs[new], classes=classes, positive_index=positive
                ).metrics
                for name in ("accuracy", "balanced_accuracy"):
                    measured.metrics[f"champion.{name}"] = other[name]
        write_predictions(
            context.out / "predictions.parquet",
            table,
            probabilities,
            theirs,
            None if saw is None else saw.told(),
        )
        counts = confusion_matrix(truth, predicted, classes=len(classes))
        plot_confusion(counts, classes, context.out / "confusion_matrix.png")
        _draw_curves(context)
        _draw_mistakes(context, arranged, table, probabilities)
        _draw_answers(context, arranged, table, probabilities)
        document = {
            "classes": classes,
            "positive": arranged.positive,
            "metrics": measured.metrics,
            "notes": measured.notes,
            "confidence": settings.confidence,
            "confusion_matrix": counts.tolist(),
            "champion": None
            if champion is None
            else {
                "name": context.pipeline.model_name,
                "version": champion.version,
                "digest": champion.digest,
                "compared": theirs is not None,
                "trained_on_known": saw is not None and saw.certain,
                "rows_left_out": None if saw is None else int(saw.rows.sum()),
            },
        }
        (context.out / "evaluation.json").write_text(json.dumps(document, indent=1), "utf-8")
        return Outcome(
            metrics=measured.metrics,
            notes=measured.notes,
            warnings=measured.warnings,
            rows_in=len(table),
            rows_out=len(table),
        )


def _champion(context: StageContext, measured: "Measured") -> Champion | None:
    """Return who serves; where that is not certain, say so and measure the challenger alone."""
    try:
        return who_serves(context)
    except Disagreement as error:
        # the challenger's figures stand, and the verdict refuses it
        measured.warnings.append(f"the champion cannot be compared with: {error}")
        return None


def _warn_of_gap(context: StageContext, measured: "Measured") -> None:
    figures = context.input("train").manifest.metrics
    logged, inference = figures["train.accuracy_logged"], figures["train.accuracy_inference"]
    if logged - inference > context.pipeline.evaluate.overfit_gap:
        measured.warnings.append(
            f"accuracy on the training images is {inference:.3f} in inference mode but was logged "
            f"as {logged:.3f}: batch norm has not settled; train longer, or freeze the backbone"
        )


def _draw_curves(context: StageContext) -> None:
    import csv

    from tasks.training.plots import plot_curves

    trained = context.input("train")
    lines = trained.read("history.csv").decode().splitlines()
    history = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
    summary = json.loads(trained.read("training.json"))
    plot_curves(history, context.out / "curves.png", kept_epoch=summary["kept_epoch"])


def _draw_mistakes(
    context: StageContext,
    arranged: "Arranged",
    table: "pd.DataFrame",
    probabilities: "NDArray[np.float32]",
) -> None:
    import numpy as np

    predicted, surest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != table["class_index"].to_numpy())
    shown = wrong[np.argsort(-surest[wrong], kind="stable")][: context.pipeline.evaluate.mistakes]
    among = f"{len(wrong)} wrong among {len(table)} test images"
    title = f"Surest mistakes: {len(shown)} of {among}" if len(shown) else f"None shown: {among}"
    _draw(context, arranged, table, probabilities, shown, name="mistakes.png", title=title)


def _draw_answers(
    context: StageContext,
    arranged: "Arranged",
    table: "pd.DataFrame",
    probabilities: "NDArray[np.float32]",
) -> None:
    from tasks.trust.sampling import stratified

    chosen = stratified(
        table.assign(row=range(len(table))),
        by=["class_index"],
        count=context.pipeline.evaluate.answers,
        seed=0,
    )
    title = f"Answers to {len(chosen)} of {len(table)} test images, by chance from each class"
    rows = chosen["row"].to_numpy()
    _draw(context, arranged, table, probabilities, rows, name="answers.png", title=title)


def _draw(
    context: StageContext,
    arranged: "Arranged",
    table: "pd.DataFrame",
    probabilities: "NDArray[np.float32]",
    shown: "NDArray[np.int64]",
    *,
    name: str,
    title: str,
) -> None:
    import tensorflow as tf

    from tasks.training.images import decode, sees_upright
    from tasks.training.plots import plot_answers

    predicted, surest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    files: Iterable[bytes] = arranged.read_bytes(table.iloc[shown])
    channels = context.pipeline.train.channels
    upright = sees_upright(context.input("train").path("model/"))
    plot_answers(
        [
            decode(tf.constant(encoded), channels=channels, upright=upright).numpy()
            for encoded in files
        ],
        [
            f"{_tail(table['image_id'].iloc[row])}\ntrue: {table['class_name'].iloc[row]}\n"
            f"predicted: {arranged.classes[predicted[row]]} ({surest[row]:.0%})"
            for row in shown
        ],
        context.out / name,
        title=title,
    )


def _tail(name: str) -> str:
    return name if len(name) <= 28 else f"…{name[-27:]}"


STAGE = EvaluateStage()
