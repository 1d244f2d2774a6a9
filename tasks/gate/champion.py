"""Challenger against champion, paired on the same test rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.contract import Champion, RuleResult
from tasks.spec import ChampionComparison

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RESAMPLES, CONFIDENCE = 2000, 0.95

LEAST_ROWS = 30
"""Rows that must be left to compare on, where some had to be left out."""


@dataclass(frozen=True, kw_only=True)
class ChampionEvidence:
    """Who serves now, and what is known of it on tonight's test rows.

    Attributes
    ----------
    current : Champion or None
        On whom all records agree; None when none of them knows one, or they disagree.
    evaluated_digest : str or None
        Digest of the champion whose predictions were recorded; None when there was none.
    predictions : Path or None
        ``predictions.parquet`` of the evaluation; None when it was not committed.
    not_compared : str
        Why the evaluation holds no answers of its champion; empty when it does.
    altered : str
        Why no copy of the champion's files has its digest; empty when one has, or nobody looked.
    disagreement : str
        Why the records do not say who serves; empty when they do.
    """

    current: Champion | None
    evaluated_digest: str | None
    predictions: Path | None
    not_compared: str = ""
    altered: str = ""
    disagreement: str = ""


def compare_with_champion(
    comparison: ChampionComparison, evidence: ChampionEvidence, *, challenger_digest: str
) -> RuleResult:
    """Judge that the challenger is not worse than the champion by more than the margin.

    The difference is taken on the same rows; its interval is a bootstrap over rows (2000 resamples,
    fixed seed, percentiles; Efron and Tibshirani, An Introduction to the Bootstrap, 1993).

    Parameters
    ----------
    comparison : ChampionComparison
        Metric and margin.
    evidence : ChampionEvidence
        The champion and the predictions of both.
    challenger_digest : str
        Digest of the model that is judged.

    Returns
    -------
    RuleResult
        ``value`` is challenger minus champion, in -1 .. 1; it passes at ``>= -margin``. It also
        passes when there is no champion or the challenger is the champion; it fails when there is
        a champion but nothing to compare with, and when the records disagree about who serves.
    """
    name = f"champion.{comparison.metric}_difference"
    bound = f">= {-comparison.margin:g}"

    def settled(passed: bool, reason: str) -> RuleResult:
        return RuleResult(metric=name, bound=bound, passed=passed, reason=reason)

    if evidence.disagreement:
        return settled(False, evidence.disagreement)
    if evidence.current is None:
        return settled(True, "no champion yet")
    version, digest = evidence.current
    if digest and digest == challenger_digest:
        if evidence.altered:
            return settled(False, f"version {version} is not what it is named: {evidence.altered}")
        return settled(True, f"is the champion already (version {version})")
    if evidence.evaluated_digest is None:
        return settled(
            False,
            f"version {version} is the champion, but was not when the model was evaluated: run "
            "evaluate again",
        )
    if evidence.evaluated_digest != digest:
        return settled(
            False, f"version {version} became champion after the evaluation: run evaluate again"
        )
    if evidence.not_compared:
        return settled(False, f"cannot be compared: {evidence.not_compared}")
    if evidence.predictions is None:
        return settled(False, "evaluate committed no predictions.parquet to compare with")
    try:
        truth, challenger, champion, saw, certain = _read(evidence.predictions)
    except (OSError, KeyError, ValueError, TypeError) as error:
        return settled(False, f"{evidence.predictions}: champion predictions unusable: {error}")
    classes = len(set(truth.tolist()))
    if saw is not None and saw.any():
        rows = len(truth)
        truth, challenger, champion = truth[~saw], challenger[~saw], champion[~saw]
        if len(truth) < LEAST_ROWS or len(set(truth.tolist())) < classes:
            return settled(
                False,
                f"cannot be compared: champion version {version} was trained on {rows - len(truth)}"
                f" of {rows} test rows, and the other {len(truth)} are fewer than {LEAST_ROWS} or "
                "lack a class: go back to the split under which it was trained, add images that it "
                "has not seen, or do without the comparison (blessing.champion: null)",
            )
    ours, theirs, low, high = paired_difference(
        truth, challenger, champion, metric=comparison.metric
    )
    words = comparison.metric.replace("_", " ")
    return RuleResult(
        metric=name,
        value=ours - theirs,
        low=low,
        high=high,
        bound=bound,
        # a hair of rounding must not decide about an equal model
        passed=ours - theirs >= -comparison.margin - 1e-9,
        reason=f"{words} {ours:.4f} against {theirs:.4f} of champion version {version} on the same "
        f"{len(truth)} test rows: {ours - theirs:+.4f} (interval {low:+.4f} .. {high:+.4f}), "
        f"may be {comparison.margin:g} worse at most{_trained_on(saw, certain)}",
    )


def paired_difference(
    truth: "npt.NDArray[np.int64]",
    challenger: "npt.NDArray[np.int64]",
    champion: "npt.NDArray[np.int64]",
    *,
    metric: Literal["accuracy", "balanced_accuracy"],
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, float, float, float]:
    """Return both scores and the bootstrap interval of their difference on the same rows.

    Parameters
    ----------
    truth, challenger, champion : ndarray of int, shape (rows,)
        True class and predicted class of either model.
    metric : {"accuracy", "balanced_accuracy"}
        Share of right answers, or the mean of that share over the classes present.
    resamples, confidence, seed : int, float, int
        Of the bootstrap.

    Returns
    -------
    challenger_score, champion_score, low, high : float
        The scores in 0 .. 1; the interval of challenger minus champion.
    """
    import numpy as np

    # only the class and who is right matter: resampling rows is then a multinomial draw of 4 cells
    # a class, which takes no memory by rows
    _, rows = np.unique(truth, return_inverse=True)
    cell = rows * 4 + (challenger == truth) * 2 + (champion == truth)
    counts = np.bincount(cell, minlength=4 * (rows.max() + 1))
    drawn = np.random.default_rng(seed).multinomial(len(truth), counts / len(truth), size=resamples)

    def scores(cells: "npt.NDArray[np.int64]") -> "npt.NDArray[np.float64]":
        table = cells.reshape(len(cells), -1, 4).astype(float)
        if metric == "accuracy":
            table = table.sum(axis=1, keepdims=True)
        total = table.sum(axis=2)
        right = np.stack([table[:, :, 2] + table[:, :, 3], table[:, :, 1] + table[:, :, 3]], axis=2)
        with np.errstate(invalid="ignore"):
            # a class that a resample misses is left out of its mean
            return np.asarray(np.nanmean(right / total[:, :, None], axis=1))

    ours, theirs = scores(counts[None])[0]
    difference = scores(drawn) @ np.array([1.0, -1.0])
    tail = (1 - confidence) / 2
    low, high = np.quantile(difference, [tail, 1 - tail])
    return float(ours), float(theirs), float(low), float(high)


def _trained_on(saw: "npt.NDArray[np.bool_] | None", certain: bool) -> str:
    if saw is None:
        return "; what the champion was trained on is not known, it may have seen some of them"
    left_out = f"; {int(saw.sum())} more are left out, the champion was trained on them"
    others = "; whether it was trained on others of the same groups is not known"
    return left_out * bool(saw.any()) + others * (not certain)


def _read(
    path: Path,
) -> tuple[
    "npt.NDArray[np.int64]",
    "npt.NDArray[np.int64]",
    "npt.NDArray[np.int64]",
    "npt.NDArray[np.bool_] | None",
    bool,
]:
    """Return truth, both answers, which rows the champion was trained on (None where nobody knows
    of any), and whether it is known of all."""
    import numpy as np
    import pyarrow.parquet as pq

    names = ["class_index", "predicted_index", "champion_predicted_index"]
    schema = pq.read_schema(path)
    # an evaluation of an earlier release does not say
    says = ["champion_saw"] if "champion_saw" in schema.names else []
    table = pq.read_table(path, columns=[*names, *says])
    for name in names:
        if name not in table.column_names:
            raise KeyError(f"column {name} is missing")
        empty = table.column(name).null_count
        if empty:
            raise ValueError(f"column {name} is empty in {empty} of {table.num_rows} rows")
    if not table.num_rows:
        raise ValueError("there are no rows")
    columns = [np.asarray(table.column(name).to_numpy()) for name in names]
    if not all(np.isfinite(column).all() for column in columns):
        raise ValueError("a class index is not a number")
    truth, challenger, champion = (column.astype(np.int64) for column in columns)
    saw = table.column("champion_saw") if says else None
    if saw is None or saw.null_count == table.num_rows:
        return truth, challenger, champion, None, False
    known = np.asarray(saw.fill_null(False).to_numpy(), bool)
    return truth, challenger, champion, known, not saw.null_count
