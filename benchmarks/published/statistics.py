"""Mean and confidence interval of repeated runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t


@dataclass(frozen=True)
class Estimate:
    """A mean over runs.

    Attributes
    ----------
    mean : float
        Arithmetic mean.
    low, high : float or None
        Bounds of the interval; None with fewer than two runs.
    runs : int
        Number of values.
    """

    mean: float
    low: float | None
    high: float | None
    runs: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def estimate(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Return mean and Student's t interval of values that are taken for normally distributed.

    Parameters
    ----------
    values : sequence of float
        One a run; at least one.
    confidence : float
        Coverage of the interval, 0 to 1.

    Raises
    ------
    ValueError
        There is no value, or one that is no number.
    """
    if not values or any(math.isnan(value) for value in values):
        raise ValueError(f"no mean of {list(values)}")
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Estimate(mean=mean, low=None, high=None, runs=count)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(t.ppf((1 + confidence) / 2, count - 1)) * math.sqrt(variance / count)
    return Estimate(mean=mean, low=mean - half, high=mean + half, runs=count)
