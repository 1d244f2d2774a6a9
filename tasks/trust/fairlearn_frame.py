"""Fairlearn's MetricFrame beside AIF360: rates by group, their differences and ratios."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tasks.trust.fairness import Figures
from tasks.trust.groups import Group, Outcomes

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from fairlearn.metrics import MetricFrame
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]

Kind = Literal["accuracy", "selection_rate", "true_positive_rate", "false_positive_rate"]

NAMES: dict[Kind, str] = {
    "accuracy": "accuracy",
    "selection_rate": "demographic_parity",
    "true_positive_rate": "equal_opportunity",
    "false_positive_rate": "false_positive_rate",
}
"""Rates, and how Fairlearn calls it when they are alike."""


@dataclass(kw_only=True)
class FrameReport:
    """What MetricFrame found for one protected attribute.

    Attributes
    ----------
    outcome : str
        Class whose prediction is the selection; ``correct`` where there is none but being right.
    by_group : list of dict
        Rates of each judged group with their intervals, as JSON-able rows.
    overall : dict of str to float
        The same rates of all judged rows.
    metrics : dict of str to Figures
        Differences and ratios by name, such as ``demographic_parity_difference``.
    warnings : list of str
        What is undefined.
    """

    outcome: str
    by_group: list[dict[str, Any]] = field(default_factory=list)
    overall: dict[str, float | None] = field(default_factory=dict)
    metrics: dict[str, Figures] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def frame_metrics(
    labels: "pd.Series[str]",
    outcomes: Outcomes,
    groups: Sequence[Group],
    *,
    attribute: str,
    of: Literal["favourable", "finding", "correct"],
    outcome: str,
    min_group: int,
    n_boot: int,
    confidence: float,
) -> FrameReport:
    """Compare groups by Fairlearn's ``MetricFrame`` [1]_.

    Parameters
    ----------
    labels : (rows,) str series
        Group of each test row.
    outcomes : Outcomes
        What became of the same rows.
    groups : sequence of Group
        Those that are judged are compared; fewer than two give an empty report.
    attribute : str
        Name, for the warnings.
    of : {'favourable', 'finding', 'correct'}
        Whether the rates are those of the favourable outcome or of the finding; ``correct``: there
        is neither, and accuracy alone is compared.
    outcome : str
        Name of that class.
    min_group : int
        Rows of its own (those with the finding, for a true positive rate) under which a group's
        rate is told but not compared.
    n_boot : int
        Bootstrap samples; 0 gives no intervals. Fairlearn draws rows, so that the intervals take
        images of one patient as independent.
    confidence : float
        Of the intervals.

    Returns
    -------
    FrameReport
        Differences, of the largest rate less the smallest, are in [0, 1], fair at 0; ratios, of the
        smallest to the largest, in [0, 1], fair at 1. ``equalized_odds`` is the worse of true and
        false positive rate [2]_ and has no interval.

    References
    ----------
    .. [1] H. Weerts et al., "Fairlearn: assessing and improving fairness of AI systems", JMLR 24
       (2023).
    .. [2] M. Hardt, E. Price, N. Srebro, "Equality of opportunity in supervised learning",
       NeurIPS 2016.
    """
    report = FrameReport(outcome=outcome)
    judged = [group.name for group in groups if group.judged]
    if len(judged) < 2:
        return report
    truth, predicted = outcomes.truth, outcomes.predicted
    if of == "finding" and outcomes.positive is not None and outcomes.found is not None:
        truth, predicted = outcomes.positive, outcomes.found
    rows = labels.isin(judged).to_numpy()
    sizes = _sizes(labels[rows], truth[rows], judged)
    kinds: list[Kind] = ["accuracy"] if of == "correct" else list(NAMES)
    able = {kind: [n for n in judged if sizes[kind][n] >= min_group] for kind in kinds}
    # one frame for the rates that all groups have, and for each other one of the groups that do
    together = [kind for kind in kinds if able[kind] == judged]
    framed = [(together, judged)] + [([kind], able[kind]) for kind in kinds if kind not in together]
    found: dict[Kind, tuple[MetricFrame, list[str]]] = {}
    for measured, names in framed:
        if measured and len(names) > 1:
            taken = labels.isin(names).to_numpy()
            frame = _frame(
                measured,
                labels[taken],
                truth[taken],
                predicted[taken],
                outcomes.correct[taken],
                n_boot=n_boot,
                confidence=confidence,
            )
            found |= {kind: (frame, names) for kind in measured}
    for kind, (frame, _) in found.items():
        report.overall[kind] = _finite(frame.overall[kind])
        _compare(report, frame, kind, attribute, sizes[kind], bool(n_boot))
    report.by_group = [_row(name, found, sizes, bool(n_boot)) for name in judged]
    both: list[Kind] = ["true_positive_rate", "false_positive_rate"]
    if all(kind in found for kind in both):
        _equalized_odds(report)
    return report


def _sizes(
    labels: "pd.Series[str]", truth: "Flags", judged: Sequence[str]
) -> dict[Kind, dict[str, int]]:
    """Count the rows that each rate of each group rests on."""
    everyone = labels.value_counts()
    those = labels[truth].value_counts()
    counts: dict[Kind, dict[str, int]] = {"accuracy": {n: int(everyone[n]) for n in judged}}
    counts["selection_rate"] = counts["accuracy"]
    counts["true_positive_rate"] = {n: int(those.get(n, 0)) for n in judged}
    counts["false_positive_rate"] = {n: int(everyone[n]) - int(those.get(n, 0)) for n in judged}
    return counts


def _frame(
    kinds: Sequence[Kind],
    labels: "pd.Series[str]",
    truth: "Flags",
    predicted: "Flags",
    correct: "Flags",
    *,
    n_boot: int,
    confidence: float,
) -> "MetricFrame":
    import fairlearn.metrics as fairlearn
    import numpy as np

    def accuracy(_: Any, __: Any, *, right: Any) -> float:
        # of all classes, not of one against the rest
        return float(np.mean(right))

    functions: dict[str, Any] = {
        "accuracy": accuracy,
        "selection_rate": fairlearn.selection_rate,
        "true_positive_rate": fairlearn.true_positive_rate,
        "false_positive_rate": fairlearn.false_positive_rate,
    }
    tail = (1 - confidence) / 2
    bootstrap = {"n_boot": n_boot, "ci_quantiles": [tail, 1 - tail], "random_state": 0}
    return fairlearn.MetricFrame(
        metrics={kind: functions[kind] for kind in kinds},
        y_true=truth.astype(int),
        y_pred=predicted.astype(int),
        sensitive_features=labels.to_numpy(dtype=object),
        sample_params={"accuracy": {"right": correct.astype(float)}} if "accuracy" in kinds else {},
        **(bootstrap if n_boot else {}),
    )


def _compare(
    report: FrameReport,
    frame: "MetricFrame",
    kind: Kind,
    attribute: str,
    sizes: dict[str, int],
    drawn: bool,
) -> None:
    """Add the difference and the ratio of a rate between the groups of a frame."""
    rates = frame.by_group[kind].sort_values()
    texts = [f"{name}: {value:.2f} of {sizes[name]}" for name, value in rates.items()]
    if len(texts) > 5:
        texts = [*texts[:2], f"{len(texts) - 3} between", texts[-1]]
    note = ", ".join(texts)
    for what in ("difference", "ratio"):
        value = _finite(getattr(frame, what)()[kind])
        name = f"{NAMES[kind]}_{what}"
        if value is None:
            report.warnings.append(
                f"{attribute}: fairlearn.{name} is undefined, it divides by a rate of zero"
            )
            continue
        low, high = _interval(getattr(frame, f"{what}_ci"), kind) if drawn else (None, None)
        report.metrics[name] = Figures(value=value, low=low, high=high, note=note)


def _equalized_odds(report: FrameReport) -> None:
    for what, worse in (("difference", max), ("ratio", min)):
        names = [f"{NAMES[kind]}_{what}" for kind in ("true_positive_rate", "false_positive_rate")]
        parts = [report.metrics[name] for name in names if name in report.metrics]
        if len(parts) == len(names):
            worst = worse(parts, key=lambda part: part.value)
            of = "true" if worst is parts[0] else "false"
            note = f"that of the {of} positive rate: {worst.note}"
            report.metrics[f"equalized_odds_{what}"] = Figures(value=worst.value, note=note)


def _row(
    name: str,
    found: "dict[Kind, tuple[MetricFrame, list[str]]]",
    sizes: dict[Kind, dict[str, int]],
    drawn: bool,
) -> dict[str, Any]:
    """Return the rates of a group; a rate of too few rows is left out."""
    row: dict[str, Any] = {"group": name, "count": sizes["accuracy"][name]}
    for kind, (frame, names) in found.items():
        if name not in names:
            continue
        low, high = None, None
        if drawn:
            low, high = (_finite(part[kind].get(name)) for part in frame.by_group_ci)
        row[kind] = {
            "value": _finite(frame.by_group[kind][name]),
            "low": low,
            "high": high,
            "rows": sizes[kind][name],
        }
    return row


def _interval(method: Any, kind: Kind) -> tuple[float | None, float | None]:
    low, high = (_finite(part[kind]) for part in method())
    return (None, None) if low is None or high is None else (low, high)


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value) + 0.0
