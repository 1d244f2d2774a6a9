"""Numbers, times and sizes as people read them."""

import math
from typing import Any

COUNTS = frozenset(
    {
        *("rows", "images", "epochs", "classes", "groups", "count", "mistakes", "rules"),
        *(
            "parameters",
            "images_with_region",
            "images_with_mass",
            "usable",
            "missing",
            "quarantined",
            "duplicates",
        ),
        *("regions", "rules_passed", "rules_failed", "steps", "images_per_group"),
    }
)
"""Last parts of metric names that are counts, not measures."""

TINY = frozenset({"delta", "sampling_rate"})
"""Last parts of metric names whose first digits matter, wherever they stand."""


def number(value: float | None, *, name: str = "") -> str:
    """Return a metric's value to three decimals, a count as a whole number."""
    if value is None or not math.isfinite(value):
        return "missing"
    if name.rsplit(".", 1)[-1] in COUNTS or (abs(value) >= 10 and float(value).is_integer()):
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:,.1f}"
    if name.rsplit(".", 1)[-1] in TINY:
        return f"{value:.3g}"
    text = f"{value:.3f}"
    return text if float(text) else "0.000"


def interval(low: float | None, high: float | None) -> str:
    """Return ``low to high``; empty when there is no interval."""
    if low is None or high is None:
        return ""
    return f"{number(low)} to {number(high)}"


def intervals(document: dict[str, Any]) -> str:
    """Return what the intervals of a check's document are: ``Intervals are 95 % intervals``."""
    confidence = document.get("confidence")
    if not isinstance(confidence, int | float):
        return "Intervals are confidence intervals"
    return f"Intervals are {100 * confidence:g} % confidence intervals"


def seconds(value: float) -> str:
    """Return a duration: ``0.4 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Return a number of bytes in the largest fitting decimal unit."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def moment(text: str) -> str:
    """Return an ISO time as ``2026-01-31 02:00:00 UTC``; anything else as it is."""
    return text.replace("T", " ").replace("+00:00", " UTC") if text else "unknown"


def count_of(items: int, singular: str, plural: str | None = None) -> str:
    """Return ``1 row`` or ``2 rows``."""
    return f"{items:,} {singular if items == 1 else plural or singular + 's'}"
