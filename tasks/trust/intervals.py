"""Confidence intervals of rates and of what is computed from counts."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Floats = NDArray[np.float64]


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion.

    It stays inside [0, 1] and keeps a width at 0 and at 1, where the bootstrap's collapses [1]_.

    Parameters
    ----------
    successes, trials : int
        Counts; with no trials the interval is ``(0, 1)``.
    confidence : float
        In (0, 1).

    Returns
    -------
    low, high : float
        In [0, 1].

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
       Journal of the American Statistical Association 22 (1927), 209-212.
    """
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / trials
    scale = 1 + z * z / trials
    middle = (rate + z * z / (2 * trials)) / scale
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / scale
    return max(0.0, middle - spread), min(1.0, middle + spread)


def resample_clusters(
    cells: "Counts", clusters: "Sequence[str]", *, size: int, draws: int, seed: int = 0
) -> "Counts":
    """Draw bootstrap replicates of a group's rows, of which only the counts per cell matter.

    Clusters (patients) are resampled, not rows: images of one patient are alike, and an interval
    that takes them for independent is too narrow [1]_. Clusters with equal counts are
    interchangeable, so the bootstrap is one multinomial draw, whatever the number of rows.

    Parameters
    ----------
    cells : (rows,) int array
        Cell of each row, below ``size``.
    clusters : sequence of str
        Cluster of each row.
    size : int
        Number of cells.
    draws : int
        Replicates.
    seed : int
        Same seed, same replicates.

    Returns
    -------
    (draws, size) int array
        Counts per cell. All zero, which leaves every rate undefined, where there are fewer than two
        clusters: they tell nothing of how clusters differ.

    References
    ----------
    .. [1] A. C. Davison, D. V. Hinkley, "Bootstrap Methods and their Application", 1997, section
       3.8.
    """
    import numpy as np

    number: dict[str, int] = {}
    rows = np.array([number.setdefault(cluster, len(number)) for cluster in clusters], np.int64)
    if len(number) < 2:
        return np.zeros((draws, size), dtype=np.int64)
    counts = np.zeros((len(number), size), dtype=np.int64)
    np.add.at(counts, (rows, cells), 1)
    kinds, multiplicity = np.unique(counts, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(counts), multiplicity / len(counts), size=draws)
    replicates: Counts = drawn @ kinds
    return replicates


def percentile_interval(
    values: "Floats", *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return the percentile interval of bootstrap replicates; None when hardly any is defined.

    Parameters
    ----------
    values : (draws,) float array
        Replicates of a statistic; not finite where a replicate leaves it undefined.
    confidence : float
        In (0, 1).
    """
    import numpy as np

    finite = values[np.isfinite(values)]
    if len(finite) < max(1, len(values) // 2):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    # no negative zeros
    return float(low) + 0.0, float(high) + 0.0


def bootstrap_mean(
    values: "Floats",
    *,
    draws: int,
    confidence: float = 0.95,
    seed: int = 0,
    statistic: "Callable[[Floats], Floats] | None" = None,
) -> tuple[float, float] | None:
    """Return the percentile interval of a mean over rows, or of a function of such means.

    Parameters
    ----------
    values : (rows,) or (rows, columns) float array
        What is averaged over the rows.
    draws : int
        Replicates; 0 gives no interval.
    confidence : float
        In (0, 1).
    seed : int
        Same seed, same interval.
    statistic : callable, optional
        Takes the (draws, columns) means and returns (draws,) values; the first column when left
        out.
    """
    import numpy as np

    table = values.reshape(len(values), -1)
    if draws == 0 or len(table) < 2:
        return None
    picks = np.random.default_rng(seed).integers(0, len(table), size=(draws, len(table)))
    means = table[picks].mean(axis=1)
    replicates = means[:, 0] if statistic is None else statistic(means)
    return percentile_interval(replicates, confidence=confidence)
