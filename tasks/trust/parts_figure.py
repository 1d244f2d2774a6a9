"""Picture of aligned images: where the model looks on average, part by part, class by class."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.figures import BLUE, GREY, new_figure
from tasks.trust.explain_figure import Explained, blend, outline, rgb, short, strongest
from tasks.trust.explanations import MOST_CLASSES, Heat, Region
from tasks.trust.parts import part_shares

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_parts(explained: Sequence[Explained], masks: Mapping[str, Region]) -> "Figure":
    """Draw for each predicted class the mean image, the mean heat map and the focus on each part.

    Parameters
    ----------
    explained : sequence of Explained
        All of the masks' size. Of more than ten predicted classes, the commonest ten are drawn.
    masks : mapping of str to (height, width) bool array
        The parts.
    """
    groups: dict[str, list[Explained]] = {}
    for item in explained:
        groups.setdefault(item.predicted_class, []).append(item)
    shown = dict(sorted(groups.items(), key=lambda group: -len(group[1]))[:MOST_CLASSES])
    figure, axes = new_figure(
        8.4,
        0.8 + max(1.9, 0.9 + 0.26 * len(masks)) * len(shown),
        nrows=len(shown),
        ncols=3,
        squeeze=False,
        width_ratios=[1, 1, 1.7],
    )
    focus = {
        name: {part: _focus(items, mask) for part, mask in masks.items()}
        for name, items in shown.items()
    }
    values = [value for parts in focus.values() for value in parts.values() if value is not None]
    most = max([1.2, *values])
    for row, (name, items) in zip(axes, sorted(shown.items()), strict=True):
        mean = sum(rgb(item.image) for item in items) / len(items)
        row[0].imshow(mean, interpolation="nearest")
        heat = _mean_heat(items)
        row[1].imshow(blend(mean, heat / strongest([heat])), interpolation="nearest")
        count = f"{len(items)} image{'s' if len(items) > 1 else ''}"
        style = {"fontsize": 8.5, "loc": "left", "pad": 4}
        row[0].set_title(f"{short(name)}: mean of {count}", **style)
        row[1].set_title("what speaks for it", fontweight="normal", **style)
        for axis in row[:2]:
            axis.set_axis_off()
            for mask in masks.values():
                outline(axis, mask)
        _bars(row[2], focus[name], most)
    figure.suptitle(
        "What the predicted class rests on, part by part",
        x=0.01,
        ha="left",
        weight="bold",
        fontsize=11,
    )
    figure.supxlabel(
        "orange-red speaks for the predicted class, blue against it; green outlines the parts\n"
        "focus: a part's share of what speaks for the class over its share of the image; 1 is as "
        "much as anywhere",
        fontsize=8.5,
        color=GREY,
    )
    return figure


def _focus(items: Sequence[Explained], mask: Region) -> float | None:
    shares = part_shares(items, mask)
    return float(shares.mean() / mask.mean()) if len(shares) else None


def _mean_heat(items: Sequence[Explained]) -> Heat:
    """Average heat maps so that each image counts alike, however sure the model is of it."""
    total = np.zeros_like(items[0].explanation.heat)
    for item in items:
        heat = item.explanation.heat
        total += heat / (np.abs(heat).sum() or 1.0)
    return total / len(items)


def _bars(axis: Any, focus: Mapping[str, float | None], most: float) -> None:
    places = range(len(focus))
    axis.barh(places, [value or 0.0 for value in focus.values()], color=BLUE, height=0.6)
    axis.set_yticks(places, [short(name) for name in focus])
    axis.invert_yaxis()
    axis.axvline(1.0, color="black", linewidth=1.0)
    axis.set_xlim(0, 1.2 * most)
    axis.grid(axis="y", visible=False)
    axis.tick_params(labelsize=8)
    axis.set_title("focus", fontsize=8.5, fontweight="normal", loc="left", pad=4)
    for place, value in enumerate(focus.values()):
        text = "none" if value is None else f"{value:.2f}"
        axis.text(1.19 * most, place, text, va="center", ha="right", fontsize=8)
