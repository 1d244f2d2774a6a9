"""Answers of an exported model, asked in the way in which it will be served."""

import json
import logging
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.contract import BadInput

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("tasks")

_LINE_EVERY_SECONDS = 15.0


class SavedClassifier:
    """A model folder that ``export_model`` wrote.

    Parameters
    ----------
    folder : Path
        Holds the SavedModel and ``model.json``.

    Attributes
    ----------
    classes : list of str
        Names of the outputs, in order.
    positive : str or None
        The class that counts as the finding.

    Raises
    ------
    OSError, ValueError, KeyError
        The folder does not hold such a model.
    """

    def __init__(self, folder: Path) -> None:
        description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.classes: list[str] = description["classes"]
        self.positive: str | None = description["positive"]
        # what a GPU answers must be what a server on a CPU answers: TF32 keeps ten bits
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self._model = tf.saved_model.load(str(folder))
        self._answer = self._model.signatures["serving_default"]

    def predict(
        self, files: Iterable[bytes], *, batch_size: int, total: int | None = None
    ) -> NDArray[np.float32]:
        """Return the probabilities for encoded images.

        Parameters
        ----------
        files : iterable of bytes
            Encoded images.
        batch_size : int
            Images a step.
        total : int, optional
            Number of images, for the progress lines.

        Returns
        -------
        ndarray
            float32, shape (n, len(classes)); rows sum to 1.

        Raises
        ------
        BadInput
            Some answers are not numbers.
        """
        iterator = iter(files)
        parts: list[NDArray[np.float32]] = []
        done, spoke = 0, time.monotonic()
        while chunk := list(islice(iterator, batch_size)):
            answer = self._answer(image_bytes=tf.constant(chunk, tf.string))
            parts.append(answer["probabilities"].numpy())
            done += len(chunk)
            if time.monotonic() - spoke > _LINE_EVERY_SECONDS:
                spoke = time.monotonic()
                log.info("predicted %d%s images", done, f" of {total}" if total else "")
        if not parts:
            return np.zeros((0, len(self.classes)), np.float32)
        answers = np.concatenate(parts)
        broken = int((~np.isfinite(answers)).any(axis=1).sum())
        if broken:
            # its argmax would be the first class, and look like an answer
            raise BadInput(
                f"the model's answer to {broken} of {len(answers)} images is not a number: its "
                "weights, or what it computes from them, have overflowed"
            )
        return answers


def write_predictions(
    path: Path,
    table: "pd.DataFrame",
    own: NDArray[np.float32],
    theirs: NDArray[np.float32] | None,
    saw: Sequence[bool | None] | None = None,
) -> None:
    """Write the test rows with truth, the challenger's answers and the champion's.

    Parameters
    ----------
    path : Path
        Parquet file.
    table : DataFrame
        Test rows with ``image_id`` and ``class_index``.
    own : ndarray
        float32, shape (rows, classes): the challenger's probabilities.
    theirs : ndarray or None
        The champion's; None leaves its columns empty.
    saw : sequence of bool or None, optional
        Whether the champion was trained on a row, or on others of its group; None where that is not
        known, of a row or of all.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows = len(table)
    truth = table["class_index"].to_numpy()
    predicted = own.argmax(axis=1)
    probabilities = pa.list_(pa.float32())

    def listed(values: NDArray[np.float32] | None) -> Any:
        return (
            pa.nulls(rows, probabilities)
            if values is None
            else pa.array(list(values), probabilities)
        )

    columns = {
        "image_id": pa.array(table["image_id"].tolist(), pa.string()),
        "class_index": pa.array(truth, pa.int64()),
        "predicted_index": pa.array(predicted, pa.int64()),
        "probabilities": listed(own),
        "champion_predicted_index": pa.nulls(rows, pa.int64())
        if theirs is None
        else pa.array(theirs.argmax(axis=1), pa.int64()),
        "champion_probabilities": listed(theirs),
        "champion_saw": pa.nulls(rows, pa.bool_()) if saw is None else pa.array(saw, pa.bool_()),
        "correct": pa.array(predicted == truth, pa.bool_()),
    }
    parquet.write_table(pa.table(columns), path)
