"""SHAP by expected gradients, with all gradients taken in one compiled function."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.trust.explanations import Explanation, Heat, Pixels, classes_to_explain
from tasks.trust.masked_copies import best_batch


class GradientShapExplainer:
    """Expected gradients [1]_, the integrated gradients [2]_ that start from many images.

    A pixel's attribution is the expectation, over images of a background and over points on the
    straight way from one of them to the image explained, of the gradient there times the length of
    the way. In expectation, the attributions of all pixels sum to the difference between the
    output for the image and its mean over the background.

    Points and estimate are those of :class:`shap.GradientExplainer`: the same seed draws the same
    points and finds the same values. What is replaced is its loop, which builds every point in
    Python and needs the Keras model: here points are made and derived in a compiled function of
    the served one.

    Parameters
    ----------
    classify : callable
        Takes float32 (n, height, width, channels), pixels 0..255; returns probabilities
        (n, classes).
    background : (n, height, width, channels) float32 array
        Pixels 0..255 of the images that are compared with.
    samples : int
        Points, each on the way from an image of the background that is drawn anew.
    seed : int
        Of the points; every image starts from it anew, so that its explanation does not depend on
        which others are explained.

    References
    ----------
    .. [1] G. Erion et al., "Improving performance of deep learning models with axiomatic
       attribution priors and expected gradients", Nature Machine Intelligence 3 (2021).
    .. [2] M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep networks", ICML 2017.
    """

    def __init__(self, classify: Any, *, background: Pixels, samples: int, seed: int) -> None:
        self._classify = tf.function(
            classify, input_signature=[tf.TensorSpec([None, *background.shape[1:]], tf.float32)]
        )
        self._background = tf.constant(background, tf.float32)
        self._batch = best_batch()
        self._draws = _draw(len(background), samples=samples, seed=seed)
        self._expected: NDArray[np.float64] | None = None
        image = tf.TensorSpec(background.shape[1:], tf.float32)
        self._attribute = tf.function(
            self._attributed,
            input_signature=[
                image,
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None], tf.float32),
                tf.TensorSpec([], tf.int32),
            ],
        )

    def explain(self, image: Pixels) -> Explanation:
        """Explain the classes of one image; see :class:`tasks.trust.explanations.Explanation`.

        Parameters
        ----------
        image : (height, width, channels) float32 array
            Pixels 0..255.
        """
        probabilities = self._classify(tf.constant(image[np.newaxis])).numpy()[0].astype(float)
        if self._expected is None:
            self._expected = self._mean_over_background()
        chosen = classes_to_explain(probabilities)
        heats = self._heats(image, chosen, probabilities)
        label = int(probabilities.argmax())
        return Explanation(
            heat=heats[label],
            class_index=label,
            probabilities=probabilities,
            expected=float(self._expected[label]),
            by_class=heats,
        )

    def _heats(
        self, image: Pixels, chosen: list[int], probabilities: NDArray[np.float64]
    ) -> dict[int, Heat]:
        """Return the heat of each class that is explained."""
        # probabilities of all classes sum to one everywhere, so that their gradients sum to zero:
        # the last class costs nothing, which is half of the work for two classes
        implied = len(chosen) == len(probabilities) and abs(probabilities.sum() - 1) < 1e-4
        heats = {number: self._heat(image, number) for number in chosen[: -1 if implied else None]}
        if implied:
            heats[chosen[-1]] = -np.sum(list(heats.values()), axis=0)
        return heats

    def _heat(self, image: Pixels, label: int) -> Heat:
        origins, positions = self._draws
        total = np.zeros(image.shape[:2])
        for start in range(0, len(origins), self._batch):
            part = slice(start, start + self._batch)
            total += self._attribute(
                tf.constant(image), tf.constant(origins[part]), tf.constant(positions[part]), label
            ).numpy()
        heat: Heat = total / len(origins)
        return heat

    def _attributed(self, image: Any, origins: Any, positions: Any, label: Any) -> Any:
        """Return the sum over some points of gradient times way, over the channels too."""
        start = tf.gather(self._background, origins)
        position = positions[:, tf.newaxis, tf.newaxis, tf.newaxis]
        points = position * image + (1 - position) * start
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            output = tf.gather(self._classify(points), label, axis=1)
        return tf.reduce_sum(tape.gradient(output, points) * (image - start), axis=[0, 3])

    def _mean_over_background(self) -> NDArray[np.float64]:
        answers = [
            self._classify(self._background[start : start + self._batch]).numpy()
            for start in range(0, len(self._background), self._batch)
        ]
        mean: NDArray[np.float64] = np.concatenate(answers).mean(axis=0, dtype=np.float64)
        return mean


def _draw(size: int, *, samples: int, seed: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Draw the background image of each point, and where on the way from it the point lies."""
    # one after the other, in the order in which SHAP's own loop draws
    generator = np.random.RandomState(seed)
    pairs = [(generator.choice(size), generator.uniform()) for _ in range(samples)]
    origins, positions = zip(*pairs, strict=True)
    return np.array(origins, np.int32), np.array(positions, np.float32)
