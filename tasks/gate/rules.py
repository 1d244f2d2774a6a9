"""One rule against one metric."""

import math
from collections.abc import Mapping

from tasks.contract import RuleResult
from tasks.spec import Rule


def judge_rule(rule: Rule, *, metrics: Mapping[str, float], notes: Mapping[str, str]) -> RuleResult:
    """Hold a metric against its bound; whatever is missing or not a number fails.

    Parameters
    ----------
    rule : Rule
        Metric and bound; with ``on: interval`` the whole confidence interval must be within it.
    metrics : mapping of str to float
        Metrics of all stages; ``NAME.low`` and ``NAME.high`` are an interval.
    notes : mapping of str to str
        Metric to a sentence on its value, quoted in the reason so that the group is named.

    Returns
    -------
    RuleResult
    """
    value = _finite(metrics.get(rule.metric))
    low, high = (_finite(_end(rule.metric, side, metrics)) for side in ("low", "high"))
    bound = bound_text(rule)
    passed, finding = _holds(rule, value, low, high, given=rule.metric in metrics)
    note = notes.get(rule.metric, "").strip().rstrip(".")
    sentence = f"{rule.metric} {finding}"
    if value is not None:
        sentence += f", must be {bound}"
    if note:
        sentence += f" ({note})"
    if rule.why and not passed:
        sentence += f": {rule.why}"
    return RuleResult(
        metric=rule.metric,
        value=value,
        low=low,
        high=high,
        bound=bound if rule.on == "value" else f"interval {bound}",
        passed=passed,
        reason=sentence,
    )


def bound_text(rule: Rule) -> str:
    """Return a rule's bound as text: ``>= 0.7``, ``<= 0.1`` or ``-0.1 .. 0.1``."""
    if rule.min is not None and rule.max is not None:
        return f"{rule.min:g} .. {rule.max:g}"
    return f">= {rule.min:g}" if rule.min is not None else f"<= {rule.max:g}"


def _holds(
    rule: Rule, value: float | None, low: float | None, high: float | None, *, given: bool
) -> tuple[bool, str]:
    if value is None:
        return False, "is not a number" if given else "is missing"
    text = f"is {value:.4g}"
    if rule.on == "value":
        return _within(rule, value), text
    if low is None or high is None:
        return False, f"{text} without a confidence interval, which the rule asks for"
    text = f"{text} (interval {low:.4g} .. {high:.4g})"
    # an interval that misses its own value is no evidence
    sane = low <= value <= high
    return sane and _within(rule, low) and _within(rule, high), text


def _within(rule: Rule, value: float) -> bool:
    return (rule.min is None or value >= rule.min) and (rule.max is None or value <= rule.max)


def _end(metric: str, side: str, metrics: Mapping[str, float]) -> float | None:
    """Return an end of a metric's interval; None where a class of that name has its metric there.

    Classes are not called so any more; results of earlier releases may be about such classes.
    """
    thing = f"{metric.split('.', 2)[-1]}.{side}"
    if all(f"evaluate.{measure}.{thing}" in metrics for measure in ("recall", "precision", "f1")):
        return None
    return metrics.get(f"{metric}.{side}")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
