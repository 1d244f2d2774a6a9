"""One look for every plot: a small style, a colour-blind-safe palette, and a way to save."""

import logging
import re
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("tasks")

# it announces that it lists the fonts of a new machine, and that most scripts have no bold
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

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


_NO_GLYPH = re.compile(r"Glyph (\d+) \(.*missing from font", re.DOTALL)


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
        "font.family": _families(),
        "font.size": 9.5,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        # names of classes, groups and files are text, dollar signs and all
        "text.parse_math": False,
    }
    rcParams.update(style)
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**subplots)


@cache
def _families() -> list[str]:
    """Return the fonts that a text is drawn with, each for what those before it lack.

    Matplotlib's own has Latin, Greek, Cyrillic, Hebrew and Arabic; those for other scripts are
    packages, to which any family that is packaged for fontpkg can be added.
    """
    import fontpkg
    import noto_cjk_sans_jp_regular
    from matplotlib.font_manager import fontManager

    names = ["DejaVu Sans"]
    for family in fontpkg.families().values():
        for font in family.files:
            fontManager.addfont(font.path)
        names.append(family.name)
    fontManager.addfont(Path(str(noto_cjk_sans_jp_regular.FONT_PATH)))
    return [*names, "Noto Sans CJK JP"]


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, the same bytes for the same picture."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(path, dpi=144, metadata={"Software": None})
    lacking = set()
    for warning in caught:
        glyph = _NO_GLYPH.match(str(warning.message))
        if glyph:
            lacking.add(chr(int(glyph[1])))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    if lacking:
        log.warning(
            "%s: no font has %s, shown as boxes; install a font for them from the packages "
            "called fontpkg-...",
            path.name,
            " ".join(sorted(lacking)[:20]),
        )
