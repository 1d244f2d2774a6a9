"""Copies of an image with parts of it hidden, made and classified in the model's own graph."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.trust.explanations import Pixels

BATCH_CPU, BATCH_GPU = 64, 256
"""Copies classified at once: what fits a processor's caches, what fills a GPU."""


def best_batch() -> int:
    """Return the number of copies that this machine classifies at once."""
    return BATCH_GPU if tf.config.list_physical_devices("GPU") else BATCH_CPU


class MaskedClassifier:
    """Classifies copies of an image, each with some of its parts hidden.

    A batch of on/off switches goes into a compiled function that looks up each pixel's switch and
    hides it or not, so that no copy is ever built in Python.

    Parameters
    ----------
    classify : callable
        Takes float32 (n, height, width, channels), pixels 0..255; returns probabilities
        (n, classes).
    """

    def __init__(self, classify: Any) -> None:
        self.batch = best_batch()
        """Copies classified at once."""
        self._classify = classify
        self._classify_copies = tf.function(
            self._copies_classified,
            input_signature=[
                tf.TensorSpec([None, None, None], tf.float32),
                tf.TensorSpec([None, None, None], tf.float32),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None, None], tf.float32),
            ],
        )

    def probabilities(
        self,
        image: Pixels,
        *,
        hidden: Pixels,
        parts: NDArray[np.int64],
        switches: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return the class probabilities of each copy.

        Parameters
        ----------
        image : (height, width, channels) float32 array
            Pixels 0..255.
        hidden : (height, width, channels) float32 array
            What is seen instead where a part is hidden.
        parts : (height, width) int array
            Part of each pixel, 0 to parts - 1.
        switches : (copies, parts) float32 array
            1 shows a part, 0 hides it.

        Returns
        -------
        (copies, classes) float32 array
        """
        pixels = tf.constant(image, tf.float32)
        instead = tf.constant(hidden, tf.float32)
        numbers = tf.constant(np.repeat(parts.ravel(), image.shape[-1]), tf.int32)
        answers = [
            self._classify_copies(
                pixels, instead, numbers, tf.constant(switches[start : start + self.batch])
            )
            for start in range(0, len(switches), self.batch)
        ]
        return np.concatenate([answer.numpy() for answer in answers])

    def _copies_classified(self, image: Any, hidden: Any, parts: Any, switches: Any) -> Any:
        # rows of whole values are looked up faster than values in rows: transpose, then back; as
        # floats, since the vectorised kernels have no narrower types on every processor
        shown = tf.transpose(tf.gather(tf.transpose(switches), parts, axis=0)) > 0.5
        flat = tf.where(shown, tf.reshape(image, [1, -1]), tf.reshape(hidden, [1, -1]))
        copies = tf.reshape(flat, tf.concat([tf.shape(switches)[:1], tf.shape(image)], axis=0))
        return self._classify(copies)


def load_tensors_signature(folder: Path) -> Any:
    """Return the ``tensors`` path of the served model: pixels 0..255 to probabilities."""
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["tensors"]

    def classify(images: Any) -> Any:
        return signature(images=images)["probabilities"]

    # a signature does not keep alive the variables of the model that it belongs to
    classify.model = loaded  # type: ignore[attr-defined]
    return classify
