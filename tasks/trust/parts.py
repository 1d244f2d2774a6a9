"""Parts about the same place in every image, as eyes in aligned faces: how much rests on them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.spec.trust import Box, pixels_between
from tasks.trust.explain_figure import Explained
from tasks.trust.explanations import Region, mass_inside
from tasks.trust.intervals import bootstrap_mean


def part_masks(
    parts: Mapping[str, Sequence[Box]], image_size: tuple[int, int]
) -> dict[str, Region]:
    """Return the pixels of each part.

    Parameters
    ----------
    parts : mapping of str to sequence of tuple
        Boxes of each part: left, top, right, bottom, as fractions of the image's sides.
    image_size : tuple of int
        Height and width, in pixels.

    Returns
    -------
    dict of str to (height, width) bool array
        A pixel belongs to a part when its centre lies in one of the boxes.
    """
    height, width = image_size
    masks: dict[str, Region] = {}
    for name, boxes in parts.items():
        mask = np.zeros((height, width), dtype=bool)
        for left, top, right, bottom in boxes:
            rows, columns = pixels_between(top, bottom, height), pixels_between(left, right, width)
            mask[np.ix_(rows, columns)] = True
        masks[name] = mask
    return masks


def part_metrics(
    explained: Sequence[Explained],
    masks: Mapping[str, Region],
    *,
    draws: int,
    confidence: float,
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Tell for each part how much of what speaks for the predicted classes lies in it.

    Parameters
    ----------
    explained : sequence of Explained
        All of the masks' size.
    masks : mapping of str to (height, width) bool array
        The parts.
    draws : int
        Bootstrap replicates over the images; 0 gives no intervals.
    confidence : float
        Of the intervals.

    Returns
    -------
    metrics : dict of str to float
        ``images_with_mass``, the number of images in which anything speaks for the class predicted:
        those that count; and of each part ``mass_inside_part.<part>``, the mean share of the
        positive explanation mass, and ``part_focus.<part>``, that share over the part's share of
        the image: 1 when the model looks everywhere alike. Without any such image there is no
        metric of a part. Intervals as ``NAME.low`` and ``NAME.high``.
    notes : dict of str to str
    warnings : list of str
        Images do not count, because nothing speaks for the class predicted.
    """
    if not masks:
        return {}, {}, []
    counted = sum(bool((item.explanation.heat > 0).any()) for item in explained)
    metrics: dict[str, float] = {"images_with_mass": counted}
    notes: dict[str, str] = {}
    warnings = []
    if counted < len(explained):
        warnings.append(
            f"explain: in {len(explained) - counted} of {len(explained)} images nothing speaks for "
            "the predicted class; what is told of parts is of the others"
        )
    for part, mask in masks.items():
        shares = part_shares(explained, mask)
        if not len(shares):
            continue
        inside, area = float(shares.mean()), float(mask.mean())
        interval = bootstrap_mean(shares, draws=draws, confidence=confidence)
        for name, scale in ((f"mass_inside_part.{part}", 1.0), (f"part_focus.{part}", 1 / area)):
            metrics[name] = inside * scale
            if interval is not None:
                metrics[f"{name}.low"], metrics[f"{name}.high"] = (
                    bound * scale for bound in interval
                )
            notes[name] = (
                f"{inside:.0%} of what speaks for the predicted class lies in {part}, which is "
                f"{area:.0%} of the image (images: {len(shares)})"
            )
    return metrics, notes, warnings


def part_shares(explained: Sequence[Explained], mask: Region) -> NDArray[np.float64]:
    """Return each image's share of the positive explanation mass in a part, where there is any."""
    shares = np.array([mass_inside(item.explanation.heat, mask) for item in explained], np.float64)
    found: NDArray[np.float64] = shares[np.isfinite(shares)]
    return found
