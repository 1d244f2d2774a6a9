"""Group fairness of test predictions: AIF360's metrics, error rates, gaps and intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tasks.spec import ProtectedAttribute
from tasks.trust.aif import group_metrics
from tasks.trust.groups import BITS, Group, Outcomes, split_into_groups
from tasks.trust.intervals import percentile_interval, resample_clusters, wilson

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

Rate = Literal[
    "accuracy",
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "favourable_true_positive_rate",
    "favourable_false_positive_rate",
]

GAPS: dict[Rate, bool] = {
    "accuracy": True,
    "true_positive_rate": True,
    "false_positive_rate": False,
}
"""Rates whose largest difference between two groups is reported, and whether more is better."""

SHOWN: tuple[Rate, ...] = (
    "accuracy",
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
)
"""Rates listed for every group; the last two are those of the positive class."""


@dataclass(kw_only=True)
class Figures:
    """A metric: its value, interval and the sentence that names groups and numbers."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(kw_only=True)
class AttributeReport:
    """What was found for one protected attribute.

    Attributes
    ----------
    attribute : str
        Column.
    groups : list of Group
        Largest first, blanks last.
    metrics : dict of str to Figures
        By name, without the attribute.
    warnings : list of str
        What could not be judged, and why.
    positive : str or None
        Class whose true and false positive rates are told.
    """

    attribute: str
    groups: list[Group]
    metrics: dict[str, Figures] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    positive: str | None = None


def examine(
    labels: "pd.Series[str]",
    outcomes: Outcomes,
    *,
    attribute: ProtectedAttribute,
    favourable: str,
    positive: str | None,
    min_group: int,
    clusters: "Sequence[str] | None" = None,
    draws: int = 1000,
    confidence: float = 0.95,
) -> AttributeReport:
    """Judge how alike the groups of a protected attribute are served.

    Parameters
    ----------
    labels : (rows,) str series
        Group of each test row, as :func:`tasks.trust.groups.attribute_labels` returns them.
    outcomes : Outcomes
        What became of the same rows.
    attribute : ProtectedAttribute
        Its name and declared groups.
    favourable : str
        ``correct`` or the favourable class, for the notes.
    positive : str or None
        The finding, for the notes.
    min_group : int
        Rows under which a group is not judged, and a rate's own rows (those with the finding, for a
        true positive rate) under which it is not compared.
    clusters : sequence of str, optional
        Patient of each row, whose images are alike; rows are independent when left out.
    draws : int
        Bootstrap replicates of the clusters within each group; 0 gives no intervals.
    confidence : float
        Of the intervals.

    Returns
    -------
    AttributeReport
    """
    groups, warnings = split_into_groups(labels, outcomes, attribute=attribute, min_group=min_group)
    report = AttributeReport(
        attribute=attribute.attribute, groups=groups, warnings=warnings, positive=positive
    )
    judged = [group for group in groups if group.judged]
    replicates = _replicates(labels, outcomes, judged, clusters, draws)
    if {group.role for group in judged} == {"privileged", "unprivileged"}:
        _compare_sides(
            report, labels, outcomes, judged, replicates, favourable, min_group, confidence
        )
    if len(judged) > 1:
        _measure_gaps(report, judged, replicates, positive, min_group, confidence)
    return report


def _replicates(
    labels: "pd.Series[str]",
    outcomes: Outcomes,
    judged: Sequence[Group],
    clusters: "Sequence[str] | None",
    draws: int,
) -> "list[Counts]":
    import numpy as np

    cells = outcomes.cells()
    found = []
    for seed, group in enumerate(judged):
        rows = np.flatnonzero((labels == group.name).to_numpy()).tolist()
        names = [str(row) if clusters is None else clusters[row] for row in rows]
        found.append(
            resample_clusters(cells[rows], names, size=1 << len(BITS), draws=draws, seed=seed)
        )
    return found


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


def _ratio(cells: "Counts", name: Rate) -> "Floats":
    import numpy as np

    hits, rows = rate(cells, name)
    with np.errstate(divide="ignore", invalid="ignore"):
        return hits / rows


def _compare_sides(
    report: AttributeReport,
    labels: "pd.Series[str]",
    outcomes: Outcomes,
    judged: Sequence[Group],
    replicates: Sequence["Counts"],
    favourable: str,
    min_group: int,
    confidence: float,
) -> None:
    """Add AIF360's metrics of the unprivileged side, pooled, against the privileged one."""
    import numpy as np

    sides = {}
    for role in ("unprivileged", "privileged"):
        members = [number for number, group in enumerate(judged) if group.role == role]
        sides[role] = (
            sum((judged[n].cells for n in members), start=np.zeros_like(judged[0].cells)),
            sum((replicates[n] for n in members), start=np.zeros_like(replicates[0])),
        )
    taken = labels.isin([group.name for group in judged]).to_numpy()
    reference = labels.isin([g.name for g in judged if g.role == "privileged"]).to_numpy()
    values = group_metrics(
        truth=outcomes.truth[taken],
        predicted=outcomes.predicted[taken],
        privileged=reference[taken],
    )
    (low_cells, low_draws), (high_cells, high_draws) = sides["unprivileged"], sides["privileged"]
    drawn = side_statistics(low_draws, high_draws)
    for name, value in values.items():
        needed = _MEASURED_ON[name]
        if any(rate(cells, kind)[1] == 0 for kind in needed for cells in (low_cells, high_cells)):
            # such as false positives where the favourable outcome is due to everybody
            continue
        if not math.isfinite(value):
            report.warnings.append(
                f"{report.attribute}: {name} is undefined, it divides by a rate of zero"
            )
            continue
        scarce = [
            kind
            for kind in needed
            if min(int(rate(cells, kind)[1]) for cells in (low_cells, high_cells)) < min_group
        ]
        if scarce:
            report.warnings.append(
                f"{report.attribute}: {name} not judged, its {scarce[0]} would rest on fewer than "
                f"{min_group} rows of a side"
            )
            continue
        interval = (
            percentile_interval(drawn[name], confidence=confidence)
            if name in drawn and len(drawn[name])
            else None
        )
        low, high = interval or (None, None)
        if needed:
            note = _sides_note(judged, needed[0], favourable, (low_cells, high_cells))
        else:
            note = f"among all {int(taken.sum())} rows judged, whatever their group"
        report.metrics[name] = Figures(value=value, low=low, high=high, note=note)


_MEASURED_ON: dict[str, tuple[Rate, ...]] = {
    "statistical_parity_difference": ("selection_rate",),
    "disparate_impact": ("selection_rate",),
    "equal_opportunity_difference": ("favourable_true_positive_rate",),
    "average_odds_difference": (
        "favourable_true_positive_rate",
        "favourable_false_positive_rate",
    ),
    "theil_index": (),
}


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
        return _ratio(unprivileged, name) - _ratio(privileged, name)

    opportunity = difference("favourable_true_positive_rate")
    with np.errstate(divide="ignore", invalid="ignore"):
        impact = _ratio(unprivileged, "selection_rate") / _ratio(privileged, "selection_rate")
    return {
        "statistical_parity_difference": difference("selection_rate"),
        "disparate_impact": impact,
        "equal_opportunity_difference": opportunity,
        "average_odds_difference": (difference("favourable_false_positive_rate") + opportunity) / 2,
    }


def _measure_gaps(
    report: AttributeReport,
    judged: Sequence[Group],
    replicates: Sequence["Counts"],
    positive: str | None,
    min_group: int,
    confidence: float,
) -> None:
    """Add the worst group's accuracy and the largest difference of each error rate."""
    for name, more_is_better in GAPS.items():
        if name != "accuracy" and positive is None:
            continue
        able = [n for n, g in enumerate(judged) if int(rate(g.cells, name)[1]) >= min_group]
        unable = [judged[n].name for n in range(len(judged)) if n not in able]
        if unable:
            report.warnings.append(
                f"{report.attribute}: {name} of {', '.join(unable[:5])} rests on fewer than "
                f"{min_group} rows and is not compared"
            )
        if len(able) < 2:
            continue
        values = {n: float(_ratio(judged[n].cells, name)) for n in able}
        ranked = sorted(able, key=lambda n: values[n] if more_is_better else -values[n])
        worst, best = ranked[0], ranked[-1]
        sign = 1 if more_is_better else -1
        # of these two groups, so that groups that differ by chance only have an interval around 0
        drawn = sign * (_ratio(replicates[best], name) - _ratio(replicates[worst], name))
        low, high = percentile_interval(drawn, confidence=confidence) or (None, None)
        note = _groups_note([judged[n] for n in ranked], name, positive)
        report.metrics[f"{name}_gap"] = Figures(
            value=abs(values[best] - values[worst]), low=low, high=high, note=note
        )
        if name == "accuracy":
            hits, rows = (int(count) for count in rate(judged[worst].cells, name))
            low, high = wilson(hits, rows, confidence=confidence)
            report.metrics["worst_group_accuracy"] = Figures(
                value=values[worst], low=low, high=high, note=note
            )


_WORDS: dict[Rate, str] = {
    "accuracy": "correct",
    "selection_rate": "predicted {favourable}",
    "true_positive_rate": "with {positive} found",
    "false_positive_rate": "without {positive} falsely alarmed",
    "favourable_true_positive_rate": "truly {favourable} predicted so",
    "favourable_false_positive_rate": "not {favourable} predicted so",
}


def _counted(cells: "Counts", kind: Rate, words: str) -> str:
    hits, rows = (int(count) for count in rate(cells, kind))
    share = f" ({hits / rows:.2f})" if rows else ""
    return f"{hits} of {rows} {words}{share}"


def _groups_note(groups: Sequence[Group], kind: Rate, positive: str | None) -> str:
    """Name the groups with their numbers, worst first; of many, the worst and the best."""
    words = _WORDS[kind].format(positive=positive, favourable="")
    texts = [f"{group.name}: {_counted(group.cells, kind, words)}" for group in groups]
    if len(texts) > 5:
        texts = [*texts[:3], f"{len(texts) - 4} between", texts[-1]]
    return ", ".join(texts)


def _sides_note(
    judged: Sequence[Group], kind: Rate, favourable: str, sides: tuple["Counts", "Counts"]
) -> str:
    if favourable == "correct":
        words = "correct"
    else:
        words = _WORDS[kind].format(favourable=favourable, positive="")
    texts = []
    for role, cells in zip(("unprivileged", "privileged"), sides, strict=True):
        names = [group.name for group in judged if group.role == role]
        shown = " + ".join(names[:4]) + (f" + {len(names) - 4} more" if len(names) > 4 else "")
        texts.append(f"{shown}: {_counted(cells, kind, words)}")
    return ", against ".join(texts)


def group_table(report: AttributeReport, *, confidence: float) -> list[dict[str, Any]]:
    """Return the groups with their counts, rates and Wilson intervals, as JSON-able rows."""
    rows = []
    for group in report.groups:
        row: dict[str, Any] = {
            "group": group.name,
            "role": group.role,
            "why_not_judged": group.why,
            "rows": group.rows,
        }
        for name in SHOWN:
            if report.positive is None and name.endswith("positive_rate"):
                continue
            hits, among = (int(count) for count in rate(group.cells, name))
            low, high = wilson(hits, among, confidence=confidence)
            row[name] = {
                "value": hits / among if among else None,
                "low": low,
                "high": high,
                "hits": hits,
                "rows": among,
            }
        if report.positive is not None:
            found = row["true_positive_rate"]
            row["false_negative_rate"] = {
                "value": None if found["value"] is None else 1 - found["value"],
                "low": 1 - found["high"],
                "high": 1 - found["low"],
                "hits": found["rows"] - found["hits"],
                "rows": found["rows"],
            }
        rows.append(row)
    return rows
