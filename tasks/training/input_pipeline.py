"""Batches for the device, from pixels that were decoded once."""

import secrets
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class Examples:
    """Decoded images with their classes, as ``tf.data`` batches.

    Parameters
    ----------
    pixels : ndarray
        uint8, shape (m, height, width, channels), 0..255. A ``numpy.memmap`` is read from disk
        batch by batch, an array is held by TensorFlow.
    labels : ndarray
        Integers, shape (m,), class indices.
    rows : ndarray
        Integers, shape (n,): the rows of ``pixels`` and ``labels`` that are used.
    """

    def __init__(
        self, pixels: Any, labels: NDArray[np.integer[Any]], rows: NDArray[np.integer[Any]]
    ) -> None:
        self.labels = np.asarray(labels, np.int32)[rows]
        self._shape = tuple(pixels.shape[1:])
        self._mapped: np.memmap[Any, Any] | None = None
        with tf.device("CPU:0"):
            self._labels = tf.constant(self.labels)
            if isinstance(pixels, np.memmap):
                self._mapped, self._rows = pixels, tf.constant(rows, tf.int64)
            else:
                self._pixels = tf.constant(pixels[rows])

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size: int) -> Any:
        """Return a dataset of (images, labels) in order, images float32."""
        return self._gathered(tf.data.Dataset.range(len(self)).batch(batch_size), None, batch_size)

    def shuffled(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: Any,
        class_weights: NDArray[np.float32] | None = None,
    ) -> Any:
        """Return a dataset whose order depends on nothing but the seed and the epoch's number.

        Parameters
        ----------
        batch_size : int
            Images a step; the last batch of an epoch may be smaller.
        seed : int
            Seed of the order.
        epoch : tf.Variable
            int64 scalar, read when an iteration begins: a run that is resumed at an epoch sees the
            batches that it would have seen.
        class_weights : ndarray, optional
            float32, shape (classes,); makes the elements (images, labels, weights).
        """

        def order(_: Any) -> Any:
            key = tf.stack([tf.constant(seed, tf.int64), epoch.read_value()])
            rows = tf.random.experimental.stateless_shuffle(
                tf.range(len(self), dtype=tf.int64), seed=key
            )
            return tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)

        return self._gathered(
            tf.data.Dataset.from_tensors(0).flat_map(order), class_weights, batch_size
        )

    def sampled(self, batch_size: int, *, epoch: Any) -> Any:
        """Return a dataset of (images, labels) in which each step has every image by chance.

        Poisson sampling: an image is in a step with probability batch_size / n, whatever else is,
        so that batches differ in size and may be empty. Which images are drawn is known to nobody:
        the key is made anew from the operating system's entropy and kept nowhere.

        Parameters
        ----------
        batch_size : int
            Images a step on average.
        epoch : tf.Variable
            int64 scalar, read when an iteration begins.
        """
        steps, probability = -(-len(self) // batch_size), min(batch_size / len(self), 1.0)
        key = tf.constant(secret_numbers(2))

        def draw(_: Any) -> Any:
            first = epoch.read_value() * steps
            return tf.data.Dataset.range(steps).map(
                lambda step: _drawn(len(self), probability, key=key, number=first + step)
            )

        return self._gathered(tf.data.Dataset.from_tensors(0).flat_map(draw), None, batch_size)

    def _gathered(self, rows: Any, class_weights: Any, batch_size: int) -> Any:
        with tf.device("CPU:0"):
            weights = None if class_weights is None else tf.constant(class_weights, tf.float32)

        def gather(batch: Any) -> tuple[Any, ...]:
            labels = tf.gather(self._labels, batch)
            images = tf.cast(self._images(batch), tf.float32)
            if weights is None:
                return images, labels
            return images, labels, tf.gather(weights, labels)

        steps = -(-len(self) // batch_size)
        return (
            rows.map(gather, num_parallel_calls=tf.data.AUTOTUNE)
            .apply(tf.data.experimental.assert_cardinality(steps))
            .prefetch(tf.data.AUTOTUNE)
        )

    def _images(self, batch: Any) -> Any:
        if self._mapped is None:
            return tf.gather(self._pixels, batch)
        mapped = self._mapped
        images = tf.numpy_function(
            lambda rows: np.ascontiguousarray(mapped[rows]),
            [tf.gather(self._rows, batch)],
            tf.uint8,
        )
        return tf.ensure_shape(images, [None, *self._shape])


def secret_numbers(count: int) -> NDArray[np.int64]:
    """Return 64-bit numbers from the operating system's entropy.

    Parameters
    ----------
    count : int
        How many.
    """
    return np.frombuffer(secrets.token_bytes(8 * count), np.int64)


def _drawn(rows: int, probability: float, *, key: Any, number: Any) -> Any:
    seed = key + tf.stack([tf.constant(0, tf.int64), number])
    # 53 bits: float32 would draw an image with a probability that is off by up to 6e-8
    chances = tf.random.stateless_uniform([rows], seed, dtype=tf.float64)
    return tf.where(chances < probability)[:, 0]


def balanced_class_weights(
    labels: NDArray[np.integer[Any]], *, classes: int
) -> NDArray[np.float32]:
    """Return the weight of each class: n / (classes * n_class), as scikit-learn's ``balanced``.

    Parameters
    ----------
    labels : ndarray
        Integers, shape (n,).
    classes : int
        Number of classes; one without images gets weight 0.

    Returns
    -------
    ndarray
        float32, shape (classes,); the mean over the images is 1 where every class has images.
    """
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.zeros(classes, np.float32)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights
