"""Rates of groups from counts of rows, their differences, and how they are told."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tasks.trust.groups import BITS, Group

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Floats = NDArray[np.float64]

Rate = Literal[
    "accuracy",
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "favourable_true_positive_rate",
    "favourable_false_positive_rate",
]

WORDS: dict[Rate, str] = {
    "accuracy": "correct",
    "selection_rate": "predicted {favourable}",
    "true_positive_rate": "with {positive} found",
    "false_positive_rate": "without {positive} falsely alarmed",
    "favourable_true_positive_rate": "truly {favourable} predicted so",
    "favourable_false_positive_rate": "not {favourable} predicted so",
}
"""What is counted, for the notes."""


def rate(cells: "Counts", name: Rate) -> tuple["Counts", "Counts"]:
    """Return numerator and denominator of a rate.

    Parameters
    ----------
    cells : (..., 32) int array
        Counts per cell of :meth:`Outcomes.cells`.
    name : str
        ``selection_rate`` is the share predicted favourable; true and false positive rates are
        those of the finding, unless named ``favourable_``.

    Returns
    -------
    hits, rows : (...) int arrays
    """
    import numpy as np

    number = np.arange(1 << len(BITS))
    flag = {bit: (number >> position) & 1 == 1 for position, bit in enumerate(BITS)}
    everyone = np.ones_like(flag["truth"])
    among, hit = {
        "accuracy": (everyone, flag["correct"]),
        "selection_rate": (everyone, flag["predicted"]),
        "true_positive_rate": (flag["positive"], flag["found"]),
        "false_positive_rate": (~flag["positive"], flag["found"]),
        "favourable_true_positive_rate": (flag["truth"], flag["predicted"]),
        "favourable_false_positive_rate": (~flag["truth"], flag["predicted"]),
    }[name]
    return cells[..., among & hit].sum(axis=-1), cells[..., among].sum(axis=-1)


def ratio(cells: "Counts", name: Rate) -> "Floats":
    """Return a rate; not finite where it has no rows. See :func:`rate`."""
    import numpy as np

    hits, rows = rate(cells, name)
    with np.errstate(divide="ignore", invalid="ignore"):
        return hits / rows


def side_statistics(unprivileged: "Counts", privileged: "Counts") -> dict[str, "Floats"]:
    """Compute the differences of two sides from their counts, as AIF360 defines them.

    Parameters
    ----------
    unprivileged, privileged : (..., 32) int array
        Counts per cell of :meth:`Outcomes.cells`; of one sample or of many replicates.

    Returns
    -------
    dict of str to (...) float array
        Not finite where a denominator is zero.
    """
    import numpy as np

    def difference(name: Rate) -> "Floats":
        return ratio(unprivileged, name) - ratio(privileged, name)

    opportunity = difference("favourable_true_positive_rate")
    with np.errstate(divide="ignore", invalid="ignore"):
        impact = ratio(unprivileged, "selection_rate") / ratio(privileged, "selection_rate")
    return {
        "statistical_parity_difference": difference("selection_rate"),
        "disparate_impact": impact,
        "equal_opportunity_difference": opportunity,
        "average_odds_difference": (difference("favourable_false_positive_rate") + opportunity) / 2,
    }


def _counted(cells: "Counts", kind: Rate, words: str) -> str:
    hits, rows = (int(count) for count in rate(cells, kind))
    share = f" ({hits / rows:.2f})" if rows else ""
    return f"{hits} of {rows} {words}{share}"


def groups_note(groups: Sequence[Group], kind: Rate, positive: str | None) -> str:
    """Name the groups with their numbers, worst first; of many, the worst and the best."""
    words = WORDS[kind].format(positive=positive, favourable="")
    texts = [f"{group.name}: {_counted(group.cells, kind, words)}" for group in groups]
    if len(texts) > 5:
        texts = [*texts[:3], f"{len(texts) - 4} between", texts[-1]]
    return ", ".join(texts)


def sides_note(
    judged: Sequence[Group], kind: Rate, favourable: str, sides: tuple["Counts", "Counts"]
) -> str:
    """Name the groups of the unprivileged side and of the privileged one, with their numbers."""
    if favourable == "correct":
        words = "correct"
    else:
        words = WORDS[kind].format(favourable=favourable, positive="")
    texts = []
    for role, cells in zip(("unprivileged", "privileged"), sides, strict=True):
        names = [group.name for group in judged if group.role == role]
        shown = " + ".join(names[:4]) + (f" + {len(names) - 4} more" if len(names) > 4 else "")
        texts.append(f"{shown}: {_counted(cells, kind, words)}")
    return ", against ".join(texts)
