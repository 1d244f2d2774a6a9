"""Group fairness of test predictions: AIF360's metrics, error rates, gaps and intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.spec import ProtectedAttribute
from tasks.trust.aif import group_metrics
from tasks.trust.groups import BITS, Group, Outcomes, split_into_groups
from tasks.trust.intervals import percentile_interval, resample_clusters, wilson
from tasks.trust.rates import Rate, groups_note, rate, ratio, side_statistics, sides_note

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]

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

    def named(self, metric: str) -> dict[str, float]:
        """Return value and ends of the interval, each under its name in a manifest."""
        if self.low is None or self.high is None:
            return {metric: self.value}
        return {metric: self.value, f"{metric}.low": self.low, f"{metric}.high": self.high}


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
            note = sides_note(judged, needed[0], favourable, (low_cells, high_cells))
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
        values = {n: float(ratio(judged[n].cells, name)) for n in able}
        ranked = sorted(able, key=lambda n: values[n] if more_is_better else -values[n])
        worst, best = ranked[0], ranked[-1]
        sign = 1 if more_is_better else -1
        # of these two groups, so that groups that differ by chance only have an interval around 0
        drawn = sign * (ratio(replicates[best], name) - ratio(replicates[worst], name))
        low, high = percentile_interval(drawn, confidence=confidence) or (None, None)
        note = groups_note([judged[n] for n in ranked], name, positive)
        report.metrics[f"{name}_gap"] = Figures(
            value=abs(values[best] - values[worst]), low=low, high=high, note=note
        )
        if name == "accuracy":
            hits, rows = (int(count) for count in rate(judged[worst].cells, name))
            low, high = wilson(hits, rows, confidence=confidence)
            report.metrics["worst_group_accuracy"] = Figures(
                value=values[worst], low=low, high=high, note=note
            )


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
