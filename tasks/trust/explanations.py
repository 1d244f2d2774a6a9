"""What an explanation of an image is, whichever method found it, and whether it looks where it
should."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Heat = NDArray[np.float64]
Region = NDArray[np.bool_]


MOST_CLASSES = 10
"""Classes of an image that are explained, the most probable ones."""

LEAST_MASS = 1e-6
"""Change of a probability under which nothing is said to speak for a class. The answers of a model
are float32, and their last bits differ between processors: shares of a smaller mass are shares of
rounding."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a model gave an image its class.

    Attributes
    ----------
    heat : (height, width) float array
        Contribution of each pixel to the class explained; positive speaks for it. Sums to the
        contributions of the parts that the method weighs.
    class_index : int
        The class explained: the one predicted.
    probabilities : (classes,) float array
        Of all classes, for the image as it is.
    fidelity : float or None
        How well the explanation predicts the model near the image (coefficient of determination of
        the local linear model, at most 1), where the method fits one and the answer varies at all.
    expected : float or None
        Probability of the class where the image says nothing, where the method shares out the
        difference to it: the contributions sum to ``probability - expected``.
    segments : (height, width) int array or None
        Part that each pixel belongs to, where the method weighs superpixels.
    weights : (segments,) float array or None
        Contribution of each of them.
    by_class : dict of int to (height, width) float array
        Heat of each class by its index; at most the :data:`MOST_CLASSES` most probable ones. Empty
        where the method explains only the class predicted.
    """

    heat: Heat
    class_index: int
    probabilities: NDArray[np.float64]
    fidelity: float | None = None
    expected: float | None = None
    segments: NDArray[np.int64] | None = None
    weights: NDArray[np.float64] | None = None
    by_class: dict[int, Heat] = field(default_factory=dict)

    @property
    def probability(self) -> float:
        """Probability of the class explained."""
        return float(self.probabilities[self.class_index])

    @property
    def additivity_gap(self) -> float | None:
        """By how much the contributions miss ``probability - expected``, in [0, 2]; None where the
        method promises no such sum."""
        if self.expected is None:
            return None
        return abs(float(self.heat.sum()) - (self.probability - self.expected))


class Explainer(Protocol):
    """A method that explains images."""

    def explain(self, image: Pixels) -> Explanation:
        """Explain the class predicted for one image, shape (height, width, channels), 0..255."""
        ...


def classes_to_explain(probabilities: NDArray[np.floating[Any]]) -> list[int]:
    """Return the indices of the most probable classes, at most :data:`MOST_CLASSES`, in order."""
    most = np.argsort(-probabilities, kind="stable")[:MOST_CLASSES]
    return sorted(int(number) for number in most)


def mass_inside(heat: Heat, region: Region) -> float:
    """Return the share of the positive explanation mass that lies inside a region.

    Parameters
    ----------
    heat : (height, width) float array
        Contribution of each pixel.
    region : (height, width) bool array
        The relevant region.

    Returns
    -------
    float
        In [0, 1]; as large as the region's share of the image when the explanation looks everywhere
        alike. NaN when nothing speaks for the class: the mass is under :data:`LEAST_MASS`.
    """
    positive = np.clip(heat, 0, None)
    total = positive.sum()
    return float(positive[region].sum() / total) if total >= LEAST_MASS else float("nan")


def resize_region(mask: NDArray[np.uint8], image_size: tuple[int, int]) -> Region:
    """Bring a mask to the size that the model sees; a pixel counts when half of it is marked.

    Parameters
    ----------
    mask : (height, width) uint8 array
        Above half of its largest value is relevant.
    image_size : tuple of int
        Height and width, in pixels.
    """
    from PIL import Image

    marked = (mask > mask.max() / 2).astype(np.uint8) * 255
    height, width = image_size
    resized = Image.fromarray(marked).resize((width, height), Image.Resampling.BOX)
    return np.asarray(resized) >= 128


def spread(weights: Sequence[float] | NDArray[np.float64], segments: NDArray[np.int64]) -> Heat:
    """Spread each segment's weight evenly over its pixels.

    Parameters
    ----------
    weights : (segments,) float array
        Weight of each segment.
    segments : (height, width) int array
        Segment of each pixel, 0 to segments - 1.
    """
    sizes = np.bincount(segments.ravel(), minlength=len(weights))
    heat: Heat = (np.asarray(weights, dtype=np.float64) / np.maximum(sizes, 1))[segments]
    return heat
