"""From labelled image files to a fitted model."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tasks.contract import BadInput
from tasks.spec import Train
from tasks.training import fitting
from tasks.training.architectures import build_classifier
from tasks.training.checkpoints import EpochRecord, Progress
from tasks.training.images import load_pixels
from tasks.training.input_pipeline import Examples
from tasks.training.validation_split import validation_rows
from tasks.training.weights import fetch_weights

if TYPE_CHECKING:
    import pandas as pd

    from tasks.training.privacy_budget import Budget

log = logging.getLogger("tasks")


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A fitted model and what is known about it.

    Attributes
    ----------
    model : keras.Model
        float32, uncompiled; pixels 0..255 in, probabilities out.
    progress : Progress
        All epochs.
    kept : EpochRecord
        The epoch whose weights the model has.
    accuracy_inference : float
        Share of right answers on the images learned from, in inference mode.
    images_per_second : float
        Training speed.
    rows_training, rows_validation : int
        Images learned from and watched.
    arithmetic : str
        ``float32`` or ``mixed_float16``, in training.
    warnings : list of str
        For the report.
    budget : Budget or None
        What the training guarantees, with ``train.privacy``.
    """

    model: Any
    progress: Progress
    kept: EpochRecord
    accuracy_inference: float
    images_per_second: float
    rows_training: int
    rows_validation: int
    arithmetic: str
    warnings: list[str]
    budget: "Budget | None" = None


def learn(
    train: Train,
    table: "pd.DataFrame",
    read: Callable[[], Iterable[bytes]],
    *,
    classes: list[str],
    scratch: Path,
    key: str,
) -> Learned:
    """Fit the model that a pipeline file describes.

    Parameters
    ----------
    train : Train
        The section of the pipeline file.
    table : DataFrame
        Training rows with ``image_id``, ``class_index`` and ``group_key``.
    read : callable
        Returns the encoded images in the table's order.
    classes : list of str
        Class names, in the order of the model's outputs.
    scratch : Path
        Folder that survives a killed attempt.
    key : str
        Identifies configuration, data and code; checkpoints of another key are ignored.

    Raises
    ------
    BadInput
        Fewer than two classes or groups have images, or some cannot be decoded.
    BadConfig, NoInput
        The architecture or its weights cannot be had.
    """
    arithmetic = fitting.prepare(train)
    training, validation, groups = _examples(train, table, read, scratch)
    warnings = _unlearned(training, classes)
    budget = None
    if train.privacy is not None:
        from tasks.training.privacy_budget import budget_warnings, plan_budget

        budget = plan_budget(train, groups)
        warnings += budget_warnings(train, budget)
    steps = -(-len(training) // train.batch_size)
    weights_file = fetch_weights(train, scratch)

    def build() -> Any:
        return build_classifier(
            train, classes=len(classes), steps_per_epoch=steps, weights_file=weights_file
        )

    model = build()
    log.info("%s: %d parameters, %s", train.architecture, model.count_params(), arithmetic)
    progress = fitting.fit(
        model,
        training=training,
        validation=validation,
        train=train,
        classes=len(classes),
        checkpoints=scratch,
        key=key,
        budget=budget,
    )
    if arithmetic != "float32":
        # served and examined in float32: faster on a CPU, and the same everywhere
        keras.config.set_dtype_policy("float32")
        fitted, model = model, build()
        model.set_weights(fitted.get_weights())
    accuracy = fitting.inference_accuracy(model, training)
    best = train.early_stopping is not None
    kept = progress.history[progress.best_epoch - 1 if best else -1]
    log.info(
        "accuracy on the images learned from: %.4f logged, %.4f in inference mode",
        kept.accuracy,
        accuracy,
    )
    return Learned(
        model=model,
        progress=progress,
        kept=kept,
        accuracy_inference=accuracy,
        images_per_second=fitting.images_per_second(progress, len(training)),
        rows_training=len(training),
        rows_validation=len(validation),
        arithmetic=arithmetic,
        warnings=warnings,
        budget=budget,
    )


def _examples(
    train: Train, table: "pd.DataFrame", read: Callable[[], Iterable[bytes]], scratch: Path
) -> tuple[Examples, Examples, list[str]]:
    labels = table["class_index"].to_numpy(np.int32)
    if len(np.unique(labels)) < 2:
        raise BadInput(
            f"the {len(table)} training rows hold fewer than two classes: nothing can be learned; "
            "look at label, filter and split"
        )
    watched = validation_rows(list(table["group_key"]), share=train.validation_split)
    log.info("%d images to learn from, %d to watch", np.sum(~watched), np.sum(watched))
    pixels = load_pixels(
        read,
        names=list(table["image_id"]),
        image_size=train.image_size,
        channels=train.channels,
        spill=scratch / "pixels.npy",
        upright=train.exif_orientation == "apply",
    )
    return (
        Examples(pixels, labels, np.flatnonzero(~watched)),
        Examples(pixels, labels, np.flatnonzero(watched)),
        list(table["group_key"][~watched]),
    )


def _unlearned(training: Examples, classes: list[str]) -> list[str]:
    counts = np.bincount(training.labels, minlength=len(classes))
    missing = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if not missing:
        return []
    return [f"no image to learn from for {len(missing)} classes: {', '.join(missing[:5])}"]
