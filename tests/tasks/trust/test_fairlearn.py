"""Fairlearn beside AIF360: they agree where both define a metric, and no rate is made up."""

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.spec import ProtectedAttribute
from tasks.trust.aif import group_metrics
from tasks.trust.fairlearn_frame import FrameReport, frame_metrics
from tasks.trust.groups import Outcomes, split_into_groups

from .test_fairness import TABLE, rows_of


def framed(
    groups: pd.Series, truth: Any, predicted: Any, *, of: str = "favourable", **options: Any
) -> FrameReport:
    outcomes = Outcomes.of(
        true_index=truth,
        predicted_index=predicted,
        favourable=1 if of == "favourable" else None,
        positive=1 if of == "finding" else None,
    )
    options = {"min_group": 10, "n_boot": 0, "confidence": 0.9, "outcome": "opacity", **options}
    found, _ = split_into_groups(
        groups,
        outcomes,
        attribute=ProtectedAttribute(attribute="sex"),
        min_group=options["min_group"],
    )
    return frame_metrics(groups, outcomes, found, attribute="sex", of=of, **options)


def test_fairlearn_and_aif360_agree_where_both_define_a_metric() -> None:
    generator = np.random.default_rng(7)
    for _ in range(5):
        truth, predicted = generator.integers(0, 2, (2, 300))
        groups = pd.Series(generator.choice(["F", "M"], 300, p=[0.3, 0.7]))
        theirs = group_metrics(
            truth=truth == 1, predicted=predicted == 1, privileged=(groups == "M").to_numpy()
        )
        found = framed(groups, truth, predicted).metrics
        # AIF360's differences have a sign and its ratio a direction; Fairlearn takes the larger
        # group rate less the smaller one
        parity = theirs["statistical_parity_difference"]
        assert found["demographic_parity_difference"].value == pytest.approx(abs(parity))
        impact = theirs["disparate_impact"]
        assert found["demographic_parity_ratio"].value == pytest.approx(min(impact, 1 / impact))
        opportunity = theirs["equal_opportunity_difference"]
        assert found["equal_opportunity_difference"].value == pytest.approx(abs(opportunity))
        alarms = 2 * theirs["average_odds_difference"] - opportunity
        assert found["false_positive_rate_difference"].value == pytest.approx(abs(alarms))
        odds = max(abs(opportunity), abs(alarms))
        assert found["equalized_odds_difference"].value == pytest.approx(odds)


def test_the_values_are_those_of_fairlearns_own_functions_for_many_groups() -> None:
    import fairlearn.metrics as fairlearn

    generator = np.random.default_rng(8)
    truth, predicted = generator.integers(0, 2, (2, 400))
    groups = pd.Series(generator.choice(list("ABCD"), 400))
    found = framed(groups, truth, predicted)
    for name in (
        "demographic_parity_difference",
        "demographic_parity_ratio",
        "equal_opportunity_difference",
        "equal_opportunity_ratio",
        "equalized_odds_difference",
        "equalized_odds_ratio",
    ):
        expected = getattr(fairlearn, name)(truth, predicted, sensitive_features=groups)
        assert found.metrics[name].value == pytest.approx(expected), name


def test_the_table_holds_every_group_with_intervals_of_the_bootstrap() -> None:
    groups, truth, predicted = rows_of(TABLE)
    report = framed(groups, truth, predicted, n_boot=20)
    rows = {row["group"]: row for row in report.by_group}
    assert rows["F"]["count"] == 40
    assert rows["F"]["accuracy"]["value"] == pytest.approx(30 / 40)
    assert rows["F"]["selection_rate"]["value"] == pytest.approx(14 / 40)
    assert rows["F"]["true_positive_rate"]["value"] == pytest.approx(12 / 20)
    assert rows["F"]["true_positive_rate"]["rows"] == 20
    assert rows["M"]["false_positive_rate"]["value"] == pytest.approx(4 / 20)
    for row in rows.values():
        for kind in ("accuracy", "selection_rate", "true_positive_rate", "false_positive_rate"):
            assert row[kind]["low"] <= row[kind]["value"] <= row[kind]["high"], kind
    assert report.overall["accuracy"] == pytest.approx(64 / 80)
    gap = report.metrics["equal_opportunity_difference"]
    assert gap.low is not None and gap.high is not None
    assert 0 <= gap.low < gap.value < gap.high
    assert gap.note == "F: 0.60 of 20, M: 0.90 of 20"
    again = framed(groups, truth, predicted, n_boot=20).metrics
    assert again["equal_opportunity_difference"].low == gap.low
    odds = report.metrics["equalized_odds_difference"]
    assert odds.value == pytest.approx(0.3) and odds.low is None
    assert odds.note.startswith("that of the true positive rate: F: 0.60")


def test_a_rate_of_few_rows_is_not_compared_and_never_taken_for_zero() -> None:
    # three of the women have the finding and all of them are missed
    groups, truth, predicted = rows_of(
        {"M": (18, 2, 4, 16), "X": (9, 3, 1, 19), "F": (0, 3, 2, 18)}
    )
    report = framed(groups, truth, predicted)
    rows = {row["group"]: row for row in report.by_group}
    assert "true_positive_rate" not in rows["F"]
    assert report.metrics["equal_opportunity_difference"].value == pytest.approx(18 / 20 - 9 / 12)
    assert report.metrics["demographic_parity_difference"].value == pytest.approx(22 / 40 - 2 / 23)
    alone = framed(*rows_of({"M": (18, 2, 4, 16), "F": (0, 3, 2, 18)}))
    assert "equal_opportunity_difference" not in alone.metrics
    assert "equalized_odds_difference" not in alone.metrics
    assert "false_positive_rate_difference" in alone.metrics


def test_where_the_favourable_outcome_is_to_be_right_the_finding_is_compared() -> None:
    groups, truth, predicted = rows_of(TABLE)
    finding = framed(groups, truth, predicted, of="finding").metrics
    assert finding["equal_opportunity_difference"].value == pytest.approx(0.3)
    assert finding["accuracy_ratio"].value == pytest.approx(30 / 34)
    right = framed(groups, truth, predicted, of="correct", outcome="correct")
    assert set(right.metrics) == {"accuracy_difference", "accuracy_ratio"}


def test_a_ratio_of_nothing_to_nothing_is_told_to_be_undefined() -> None:
    report = framed(*rows_of({"M": (0, 20, 0, 20), "F": (0, 20, 0, 20)}))
    assert "demographic_parity_ratio" not in report.metrics
    assert report.metrics["demographic_parity_difference"].value == 0
    assert "sex: fairlearn.demographic_parity_ratio is undefined" in report.warnings[0]


def test_fewer_than_two_judged_groups_are_not_compared() -> None:
    report = framed(*rows_of({"M": (18, 2, 4, 16), "F": (1, 1, 1, 1)}))
    assert report.metrics == {} and report.by_group == []


def test_the_stage_gives_both_libraries_and_a_rule_may_bound_either(night: Any) -> None:
    night.evaluate(lambda film: 0 if film.sex == "F" and film.pixels.sum() % 3 == 0 else film.label)
    options = {"protected": [{"attribute": "sex", "privileged": ["M"]}], "n_boot": 10}
    manifest = night.check("fairness", fairness={**options, "favourable": "opacity"})
    both = {
        f"fairness.sex.{name}": abs(manifest.metrics[f"fairness.sex.{other}"])
        for name, other in (
            ("fairlearn.demographic_parity_difference", "statistical_parity_difference"),
            ("fairlearn.equal_opportunity_difference", "equal_opportunity_difference"),
            ("fairlearn.accuracy_difference", "accuracy_gap"),
        )
    }
    assert all(value > 0 for value in both.values())
    for name, value in both.items():
        assert manifest.metrics[name] == pytest.approx(value), name
        assert manifest.notes[name].startswith("F: ")
    entry = night.document("fairness", "fairness.json")["attributes"][0]["fairlearn"]
    assert entry["outcome"] == "opacity" and entry["n_boot"] == 10
    assert [row["group"] for row in entry["by_group"]] == ["F", "M"]


def test_the_stage_names_what_it_needs_late() -> None:
    script = (
        "import sys, tasks.stages.fairness, tasks.stages.explain, tasks.trust.fairlearn_frame;"
        "heavy = {'fairlearn', 'sklearn', 'shap', 'lime', 'aif360', 'tensorflow', 'pandas'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
