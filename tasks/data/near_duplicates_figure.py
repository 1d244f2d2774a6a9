"""Picture of near duplicates: pairs one above the other, with what the data say of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from tasks.data.perceptual import eight_bits
from tasks.figures import GREY, RED, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ABREAST = 4


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One of two images that show nearly the same picture.

    Attributes
    ----------
    content : bytes
        The file.
    name, group, side, label : str
        Of the row; ``group`` may be empty.
    """

    content: bytes
    name: str
    group: str
    side: str
    label: str


def draw_pairs(pairs: Sequence[tuple[Shown, Shown]], *, title: str) -> "Figure":
    """Draw pairs, each image above what is said of it; what differs is in orange.

    Parameters
    ----------
    pairs : sequence of tuple of Shown
        At least one.
    title : str
        Heading.
    """
    columns = min(_ABREAST, len(pairs))
    rows = -(-len(pairs) // columns)
    figure, axes = new_figure(
        2 * 1.75 * columns, 0.6 + 2.6 * rows, nrows=rows, ncols=2 * columns, squeeze=False
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for number, pair in enumerate(pairs):
        row, place = divmod(number, columns)
        for axis, one, other in zip(
            axes[row][2 * place : 2 * place + 2], pair, pair[::-1], strict=True
        ):
            _draw(axis, one, other)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=11)
    figure.supxlabel("side by side: one pair; orange: what differs", fontsize=8.5, color=GREY)
    return figure


def _draw(axis: "Axes", one: Shown, other: Shown) -> None:
    with Image.open(BytesIO(one.content)) as image:
        axis.imshow(eight_bits(image).convert("RGB"))
    lines = [
        (one.group, one.group != other.group),
        (one.side, one.side != other.side),
        (one.label, one.label != other.label),
    ]
    axis.set_title(_short(one.name), fontsize=7.5, weight="normal", loc="center")
    lines = [(text, differs) for text, differs in lines if text]
    for number, (text, differs) in enumerate(lines):
        axis.text(
            0.5,
            -0.04 - 0.1 * number,
            _short(text),
            transform=axis.transAxes,
            ha="center",
            va="top",
            fontsize=7.5,
            color=RED if differs else "black",
        )


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:8]}…{text[-15:]}"
