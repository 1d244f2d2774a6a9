"""One look for every plot: a small style, a colour-blind-safe palette, and a way to save."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# it announces that it lists the fonts of a new machine
logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#6b7280",
)
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY)
"""Okabe and Ito's colours, told apart with any colour vision."""


def new_figure(width: float = 6.4, height: float = 4.0, **subplots: Any) -> tuple["Figure", Any]:
    """Return a figure and its axes in the package's style, drawn without a display.

    The style stays in force in this process, which draws nothing else: titles and legends take
    theirs only when they are added.

    Parameters
    ----------
    width, height : float
        Size in inches; at 144 dots per inch in the file.
    **subplots
        Passed to :meth:`matplotlib.figure.Figure.subplots`.
    """
    from cycler import cycler
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    style = {
        "axes.grid": True,
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "font.size": 9.5,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        # names of classes, groups and files are text, dollar signs and all
        "text.parse_math": False,
    }
    rcParams.update(style)
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**subplots)


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, the same bytes for the same picture."""
    figure.savefig(path, dpi=144, metadata={"Software": None})
