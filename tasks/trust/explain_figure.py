"""Picture of explanations: each image beside what speaks for and against its predicted class."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.figures import BLUE, GREEN, GREY, RED, new_figure
from tasks.trust.explanations import Explanation, Heat, Pixels, Region, mass_inside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IMAGES = 24
"""Images drawn; all of them are in the document."""

_PAIRS = 4


@dataclass(frozen=True, kw_only=True)
class Explained:
    """An image with its explanation and what is known about it.

    Attributes
    ----------
    image_id : str
    image : (height, width, channels) float32 array
        Pixels 0..255.
    explanation : Explanation
    true_class, predicted_class : str
    region : (height, width) bool array or None
        Relevant region.
    """

    image_id: str
    image: Pixels
    explanation: Explanation
    true_class: str
    predicted_class: str
    region: Region | None = None

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.true_class == self.predicted_class

    @property
    def inside(self) -> float | None:
        """Share of the positive explanation mass inside the region; None where there is no region,
        or nothing speaks for the class."""
        if self.region is None:
            return None
        share = mass_inside(self.explanation.heat, self.region)
        return share if math.isfinite(share) else None

    @property
    def area(self) -> float | None:
        """The region's share of the image."""
        return None if self.region is None else float(self.region.mean())


def draw_explanations(explained: Sequence[Explained]) -> "Figure":
    """Draw a grid of pairs, image and heat map, with the region's outline.

    Parameters
    ----------
    explained : sequence of Explained
        By superpixels (LIME); at most :data:`MOST_IMAGES` are drawn.
    """
    shown = list(explained[:MOST_IMAGES])
    pairs = min(_PAIRS, len(shown))
    rows = -(-len(shown) // pairs)
    figure, axes = new_figure(
        max(6.0, 2.9 * pairs), 0.7 + 1.85 * rows, nrows=rows, ncols=2 * pairs, squeeze=False
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for number, item in enumerate(shown):
        row, column = divmod(number, pairs)
        original, overlay = axes[row][2 * column], axes[row][2 * column + 1]
        original.imshow(rgb(item.image), interpolation="nearest")
        overlay.imshow(_overlaid(item), interpolation="nearest")
        if item.region is not None:
            for axis in (original, overlay):
                outline(axis, item.region)
        _caption(original, overlay, item)
    more = f" (first {len(shown)} of {len(explained)})" if len(explained) > len(shown) else ""
    figure.suptitle(
        f"What the predicted class rests on{more}", x=0.01, ha="left", weight="bold", fontsize=11
    )
    legend = "orange-red speaks for the predicted class, blue against it"
    if any(item.region is not None for item in shown):
        legend += "; green outlines the relevant region"
    figure.supxlabel(legend, fontsize=8.5, color=GREY)
    return figure


def _caption(original: Any, overlay: Any, item: Explained) -> None:
    """Say what was predicted, whether rightly, and how much of the mass lies inside the region."""
    style = {"fontsize": 7.5, "fontweight": "normal", "loc": "left", "pad": 3}
    answer = f"{short(item.predicted_class)} {item.explanation.probability:.2f}"
    truth = "right" if item.correct else f"truth: {short(item.true_class)}"
    colour = "black" if item.correct else RED
    original.set_title(f"{answer}\n{truth}", color=colour, **style)
    if item.region is None and item.explanation.fidelity is not None:
        text = f"fidelity {item.explanation.fidelity:.2f}"
    elif item.inside is None:
        text = "nothing in it\nspeaks for it"
    else:
        text = f"{item.inside:.0%} inside the\n{item.area:.0%} that matter"
    overlay.set_title(text, **style)


def rgb(image: Pixels) -> Any:
    """Return an image of 0..255, grey or in colour, as red, green and blue in [0, 1]."""
    shown = np.clip(np.round(image), 0, 255) / 255.0
    return np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown


def _overlaid(item: Explained) -> Any:
    """Blend the segments' weights, scaled to the strongest, over the image."""
    weights, segments = item.explanation.weights, item.explanation.segments
    if weights is None or segments is None:
        raise ValueError(f"{item.image_id}: the explanation is not by superpixels")
    weights = weights[segments]
    return blend(rgb(item.image), weights / (np.abs(weights).max() or 1.0))


def blend(image: Any, strength: Heat) -> Any:
    """Blend what speaks for a class (orange-red) and against it (blue) over a grey, paler image.

    Parameters
    ----------
    image : (height, width, 3) array
        Red, green and blue in [0, 1].
    strength : (height, width) array
        From -1, against, to 1, for; what is beyond gets the full colour too.
    """
    from matplotlib.colors import to_rgb

    alpha = 0.8 * np.clip(np.abs(strength), 0, 1)[..., np.newaxis]
    base = 0.3 + 0.6 * image.mean(axis=-1, keepdims=True)
    colour = np.where((strength > 0)[..., np.newaxis], to_rgb(RED), to_rgb(BLUE))
    return np.clip((1 - alpha) * base + alpha * colour, 0, 1)


def strongest(heats: Iterable[Heat]) -> float:
    """Return the strength that gets the full colour.

    Single pixels are much stronger than all others and would leave the rest pale: the 99th
    percentile of the heat map in which it is largest; but at least a tenth of the strongest pixel,
    so that a small mark stands out of noise.
    """
    strengths = [np.abs(heat) for heat in heats]
    percentile = max(np.percentile(each, 99) for each in strengths)
    return float(max(percentile, 0.1 * max(each.max() for each in strengths)) or 1.0)


def outline(axis: Any, mask: Region) -> None:
    """Draw the border of a region, unless it is empty or the whole image."""
    if mask.all() or not mask.any():
        return
    # a border of nothing around it, that the outline closes at the image's edge
    padded = np.pad(mask, 1).astype(float)
    rows, columns = (np.arange(side) - 1 for side in padded.shape)
    # that border is not to be seen
    axis.autoscale(False)
    axis.contour(columns, rows, padded, levels=[0.5], colors=[GREEN], linewidths=1.0)


def short(name: str) -> str:
    """Return a name that fits over a small picture."""
    return name if len(name) <= 15 else f"{name[:14]}…"
