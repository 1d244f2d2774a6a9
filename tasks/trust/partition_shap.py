"""SHAP by halves of halves of an image, with its copies made and classified in one graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.trust.explanations import Explanation, Pixels, classes_to_explain, spread
from tasks.trust.masked_copies import MaskedClassifier

FINEST = 64
"""Cells along the longer side of an image, below which halves are not divided further: smaller ones
would be reached after thousands of copies only."""


class PartitionShapExplainer:
    """Owen values [1]_ of rectangles that are halved again and again (SHAP's partition explainer).

    The image is halved along its longer side, each half again, and so on; a half's attribution is
    the mean change of the output when it is shown, over whether its other half is shown, too. The
    halves that change the output most are divided first, until ``samples`` copies have been
    classified; what is not divided further shares its attribution evenly. A hidden part is blurred
    beyond recognition. Whatever the number of copies, the attributions sum to the difference
    between the output for the image and for the image that is hidden altogether.

    The recursion is that of :class:`shap.PartitionExplainer`; copies are made in the model's graph.

    Parameters
    ----------
    classify : callable
        Takes float32 (n, height, width, channels), pixels 0..255; returns probabilities
        (n, classes).
    samples : int
        Copies of an image, the whole and the hidden one included.
    seed : int
        Of the order among halves that change the output alike; every image starts from it anew.

    References
    ----------
    .. [1] G. Owen, "Values of games with a priori unions", Mathematical Economics and Game Theory
       (1977); S. Lundberg, S.-I. Lee, "A unified approach to interpreting model predictions",
       NeurIPS 2017.
    """

    def __init__(self, classify: Any, *, samples: int, seed: int) -> None:
        self._copies = MaskedClassifier(classify)
        self._samples = samples
        self._seed = seed
        self._size: tuple[int, int] | None = None
        self._parts: NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self._cells = 0
        self._explainer: Any = None
        self._image: Pixels = np.zeros((0, 0, 1), np.float32)
        self._hidden = self._image

    def explain(self, image: Pixels) -> Explanation:
        """Explain the classes of one image; see :class:`tasks.trust.explanations.Explanation`.

        Parameters
        ----------
        image : (height, width, channels) float32 array
            Pixels 0..255.
        """
        self._prepare(image.shape[0], image.shape[1])
        self._image, self._hidden = image, blurred(image)
        with _seeded(self._seed):
            found = self._explainer(
                np.ones((1, self._cells), dtype=bool),
                max_evals=self._samples,
                batch_size=self._copies.batch,
                silent=True,
            )
        values, expected = found.values[0], found.base_values[0]
        probabilities = self._answers(np.ones((1, self._cells), dtype=bool))[0]
        label = int(probabilities.argmax())
        heats = {
            number: spread(values[:, number], self._parts)
            for number in classes_to_explain(probabilities)
        }
        return Explanation(
            heat=heats[label],
            class_index=label,
            probabilities=probabilities,
            expected=float(expected[label]),
            by_class=heats,
        )

    def _prepare(self, height: int, width: int) -> None:
        """Divide images of a size into cells, once."""
        if self._size == (height, width):
            return
        from shap import PartitionExplainer
        from shap.maskers import Image

        side = -(-max(height, width) // FINEST)
        rows, columns = -(-height // side), -(-width // side)
        down, across = np.arange(height) // side, np.arange(width) // side
        self._size = (height, width)
        self._parts = down[:, np.newaxis] * columns + across
        self._cells = rows * columns
        tree = Image(np.zeros((rows, columns, 1))).clustering
        self._explainer = PartitionExplainer(self._answers, _Switches(tree))

    def _answers(self, switches: NDArray[np.bool_]) -> NDArray[np.float64]:
        return self._copies.probabilities(
            self._image,
            hidden=self._hidden,
            parts=self._parts,
            switches=switches.astype(np.float32),
        ).astype(np.float64)


class _Switches:
    """Takes the place of a masker: hands on which cells are shown, not the copy that shows them."""

    immutable_outputs = True

    def __init__(self, clustering: NDArray[np.float64]) -> None:
        self.clustering = clustering
        self.shape = (1, len(clustering) + 1)

    def __call__(self, mask: NDArray[np.bool_], _: Any) -> tuple[NDArray[np.bool_]]:
        return (mask[np.newaxis],)


def blurred(image: Pixels) -> Pixels:
    """Return the image blurred beyond recognition, by a box of half its size.

    Parameters
    ----------
    image : (height, width, channels) float32 array
        Pixels 0..255.
    """
    from scipy.ndimage import uniform_filter

    height, width, _ = image.shape
    smooth: Pixels = uniform_filter(
        image, size=(height // 2 + 1, width // 2 + 1, 1), mode="mirror", output=np.float32
    )
    return smooth


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, from which SHAP draws, and put it back as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
