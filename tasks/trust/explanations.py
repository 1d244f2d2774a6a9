"""What an explanation of an image is, whichever method found it, and whether it looks where it
should."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Heat = NDArray[np.float64]
Region = NDArray[np.bool_]


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
    probability : float
        Its probability.
    fidelity : float
        How well the explanation predicts the model near the image (coefficient of determination of
        the local linear model, at most 1).
    segments : (height, width) int array
        Part that each pixel belongs to.
    weights : (segments,) float array
        Contribution of each part.
    """

    heat: Heat
    class_index: int
    probability: float
    fidelity: float
    segments: NDArray[np.int64]
    weights: NDArray[np.float64]


class Explainer(Protocol):
    """A method that explains images."""

    def explain(self, image: Pixels) -> Explanation:
        """Explain the class predicted for one image, shape (height, width, channels), 0..255."""
        ...


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
        alike. NaN when nothing speaks for the class.
    """
    positive = np.clip(heat, 0, None)
    total = positive.sum()
    return float(positive[region].sum() / total) if total > 0 else float("nan")


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
