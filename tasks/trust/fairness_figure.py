"""Picture of a protected attribute: what each group gets, with intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.figures import BLUE, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_GROUPS = 24
"""Groups drawn; the rest are in the table."""


def draw_groups(
    rows: Sequence[dict[str, Any]],
    *,
    attribute: str,
    favourable: str,
    positive: str | None,
    confidence: float = 0.95,
) -> "Figure":
    """Draw each group's rates as dots with Wilson intervals, one panel a rate.

    Parameters
    ----------
    rows : sequence of dict
        As :func:`tasks.trust.fairness.group_table` returns them.
    attribute : str
        Column, for the title.
    favourable : str
        ``correct`` or the favourable class.
    positive : str or None
        The finding; without one there are no panels for its true and false positive rate.
    confidence : float
        Of the intervals in the rows.
    """
    panels = [("accuracy", "classified correctly")]
    if favourable != "correct":
        panels.append(("selection_rate", f"predicted {favourable}"))
    if positive is not None:
        panels.append(("true_positive_rate", f"{positive} found (TPR)"))
        panels.append(("false_positive_rate", f"{positive} falsely alarmed (FPR)"))
    shown = list(rows[:MOST_GROUPS])
    figure, axes = new_figure(
        max(5.6, 1.7 + 2.6 * len(panels)),
        1.5 + 0.34 * max(2, len(shown)),
        ncols=len(panels),
        squeeze=False,
        sharey=True,
    )
    for axis, (name, title) in zip(axes[0], panels, strict=True):
        _draw_panel(axis, shown, name)
        axis.set_title(title, fontsize=9.5, fontweight="normal")
    first = axes[0][0]
    first.set_yticks(range(len(shown)), [_label(row) for row in shown])
    first.set_ylim(len(shown) - 0.5, -0.5)
    more = f" ({len(rows) - len(shown)} smaller groups not drawn)" if len(rows) > len(shown) else ""
    figure.suptitle(f"Served alike? Groups of {attribute}{more}", x=0.01, ha="left", weight="bold")
    legend = f"{confidence:.0%} intervals · blue: reference · orange: compared with it"
    if any(row["role"] == "not judged" for row in shown):
        legend += " · grey: not judged"
    figure.supxlabel(legend, fontsize=8, color=GREY)
    return figure


def _draw_panel(axis: Any, rows: Sequence[dict[str, Any]], name: str) -> None:
    for height, row in enumerate(rows):
        rate = row[name]
        if rate["value"] is None:
            axis.text(0.5, height, "no rows", color=GREY, ha="center", va="center", fontsize=8)
            continue
        role = row["role"]
        colour = {"privileged": BLUE, "unprivileged": ORANGE}.get(role, GREY)
        axis.plot([rate["low"], rate["high"]], [height, height], color=colour, linewidth=2)
        axis.plot(
            rate["value"],
            height,
            "o",
            color=colour,
            markerfacecolor="white" if role == "not judged" else colour,
        )
    axis.set_xlim(-0.02, 1.02)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axis.tick_params(length=0)


def _label(row: dict[str, Any]) -> str:
    name = row["group"]
    return f"{name if len(name) <= 24 else name[:23] + '…'}  (n={row['rows']})"
