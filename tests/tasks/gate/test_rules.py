"""Rules against metrics: what passes, what fails, and what is said."""

import math

import pytest

from tasks.gate import judge_rule
from tasks.spec import Blessing, Rule

METRICS = {
    "evaluate.accuracy": 0.8,
    "evaluate.accuracy.low": 0.74,
    "evaluate.accuracy.high": 0.86,
    "evaluate.roc_auc": 0.9,
    "broken.nan": math.nan,
    "broken.infinite": math.inf,
    "broken.interval": 0.5,
    "broken.interval.low": 0.6,
    "broken.interval.high": 0.7,
}


@pytest.mark.parametrize(
    ("rule", "passed"),
    [
        (Rule(metric="evaluate.accuracy", min=0.8), True),
        (Rule(metric="evaluate.accuracy", min=0.81), False),
        (Rule(metric="evaluate.accuracy", max=0.8), True),
        (Rule(metric="evaluate.accuracy", max=0.79), False),
        (Rule(metric="evaluate.accuracy", min=0.7, max=0.9), True),
        (Rule(metric="evaluate.accuracy", min=0.7, max=0.75), False),
        (Rule(metric="evaluate.accuracy", min=0.7, on="interval"), True),
        (Rule(metric="evaluate.accuracy", min=0.75, on="interval"), False),
        (Rule(metric="evaluate.accuracy", max=0.85, on="interval"), False),
        (Rule(metric="evaluate.roc_auc", min=0.1, on="interval"), False),
        (Rule(metric="evaluate.absent", max=1e9), False),
        (Rule(metric="broken.nan", min=-1e9), False),
        (Rule(metric="broken.nan", max=1e9), False),
        (Rule(metric="broken.infinite", min=0), False),
        (Rule(metric="broken.interval", min=0.1, on="interval"), False),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_rule_passes_only_on_a_finite_metric_within_its_bounds(rule: Rule, passed: bool) -> None:
    assert judge_rule(rule, metrics=METRICS, notes={}).passed is passed


@pytest.mark.parametrize(
    ("metric", "said"),
    [("evaluate.absent", "evaluate.absent is missing"), ("broken.nan", "is not a number")],
)
def test_what_cannot_be_judged_says_so(metric: str, said: str) -> None:
    result = judge_rule(Rule(metric=metric, min=0), metrics=METRICS, notes={})
    assert said in result.reason
    assert result.value is None


def test_a_missing_interval_is_named() -> None:
    rule = Rule(metric="evaluate.roc_auc", min=0.1, on="interval")
    assert "without a confidence interval" in judge_rule(rule, metrics=METRICS, notes={}).reason


def test_the_recalls_of_other_classes_are_no_interval() -> None:
    recalls = {"risk": 0.75, "risk.low": 0.6, "risk.high": 0.9}
    metrics = {
        f"evaluate.{measure}.{name}": value
        for measure in ("recall", "precision", "f1")
        for name, value in recalls.items()
    } | {f"explain.focus_for.{name}": value for name, value in recalls.items()}
    for metric in ("evaluate.recall.risk", "explain.focus_for.risk"):
        result = judge_rule(Rule(metric=metric, min=0.55, on="interval"), metrics=metrics, notes={})
        assert not result.passed
        assert "without a confidence interval" in result.reason
        # the value itself is there
        assert judge_rule(Rule(metric=metric, min=0.55), metrics=metrics, notes={}).passed


def test_a_class_called_low_has_an_interval_of_its_own() -> None:
    metrics = {"explain.focus_for.low": 0.7, "explain.focus_for.low.low": 0.6}
    metrics |= {"explain.focus_for.low.high": 0.8, "evaluate.recall.low": 0.9}
    rule = Rule(metric="explain.focus_for.low", min=0.55, on="interval")
    assert judge_rule(rule, metrics=metrics, notes={}).passed


def test_a_lax_rule_on_the_metric_of_a_default_rule_does_not_take_its_place() -> None:
    lax = [Rule(metric=rule.metric, min=-1) for rule in Blessing().all_rules()]
    metrics = {rule.metric: 0.0 for rule in lax}
    results = [
        judge_rule(rule, metrics=metrics, notes={}) for rule in Blessing(rules=lax).all_rules()
    ]
    assert [result.passed for result in results] == [False, False, True, True]


def test_the_reason_names_value_bound_group_and_purpose() -> None:
    rule = Rule(metric="fairness.sex.gap", max=0.1, why="women must be served as well")
    result = judge_rule(
        rule,
        metrics={"fairness.sex.gap": 0.31},
        notes={"fairness.sex.gap": "F: 12 of 30 found, M: 29 of 40."},
    )
    assert result.reason == (
        "fairness.sex.gap is 0.31, must be <= 0.1 (F: 12 of 30 found, M: 29 of 40): "
        "women must be served as well"
    )


def test_a_collapsed_model_is_refused_by_the_default_rules_whatever_its_accuracy() -> None:
    metrics = {
        "evaluate.accuracy": 0.98,
        "evaluate.least_recall": 0.0,
        "evaluate.balanced_accuracy_above_chance": 0.0,
    }
    results = [judge_rule(rule, metrics=metrics, notes={}) for rule in Blessing().all_rules()]
    assert results
    assert not any(result.passed for result in results)
