"""Picture of explanations class by class: what in an image speaks for and against each class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.figures import GREY, RED, new_figure
from tasks.trust.explain_figure import Explained, blend, outline, rgb, short, strongest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IMAGES = 16
"""Images drawn; all of them are in the document."""

_FEW = 6
"""Columns that a picture of few classes may have."""


def draw_by_class(
    explained: Sequence[Explained], *, classes: Sequence[str], title: str
) -> "Figure":
    """Draw each image beside a heat map of every class explained.

    Parameters
    ----------
    explained : sequence of Explained
        With heat maps by class; at most :data:`MOST_IMAGES` are drawn.
    classes : sequence of str
        Names by index.
    title : str
        Heading.
    """
    shown = list(explained[:MOST_IMAGES])
    width = 1 + max(len(item.explanation.by_class) for item in shown)
    # of few classes, two or more images fit side by side
    abreast = min(len(shown), max(1, _FEW // width)) if width <= _FEW else 1
    rows = -(-len(shown) // abreast)
    columns = abreast * width
    figure, axes = new_figure(
        max(6.4, 1.42 * columns),
        0.95 + 1.76 * rows,
        nrows=rows,
        ncols=columns,
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for number, item in enumerate(shown):
        row, place = divmod(number, abreast)
        _draw(axes[row][place * width : (place + 1) * width], item, classes)
    more = f" (first {len(shown)} of {len(explained)})" if len(explained) > len(shown) else ""
    figure.suptitle(f"{title}{more}", x=0.01, ha="left", weight="bold", fontsize=11)
    legend = "orange-red speaks for the class above, blue against it; bold: the class predicted"
    if any(item.region is not None for item in shown):
        legend += (
            "\ngreen outlines the relevant region; over the image: how much of what speaks for"
            "\nthe class predicted lies in it, and its share of the image"
        )
    figure.supxlabel(legend, fontsize=8.5, color=GREY)
    return figure


def _draw(axes: Sequence[Any], item: Explained, classes: Sequence[str]) -> None:
    explanation = item.explanation
    style = {"fontsize": 7.5, "loc": "left", "pad": 3}
    axes[0].imshow(rgb(item.image), interpolation="nearest")
    truth = "right" if item.correct else f"truth: {short(item.true_class)}"
    inside = ""
    if item.region is not None:
        nothing = item.inside is None
        inside = "nothing for it" if nothing else f"{item.inside:.0%} in {item.area:.0%}"
    colour = "black" if item.correct else RED
    axes[0].set_title(f"{truth}\n{inside}", color=colour, fontweight="normal", **style)
    heats = explanation.by_class
    full = strongest(heats.values())
    for axis, (number, heat) in zip(axes[1:], heats.items(), strict=False):
        axis.imshow(blend(rgb(item.image), heat / full), interpolation="nearest")
        predicted = number == explanation.class_index
        axis.set_title(
            f"{short(classes[number])}\n{explanation.probabilities[number]:.2f}",
            fontweight="bold" if predicted else "normal",
            **style,
        )
    if item.region is not None:
        for axis in axes[: 1 + len(heats)]:
            outline(axis, item.region)
