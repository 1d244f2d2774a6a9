"""Fairness figures against tables worked out by hand."""

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from tasks.contract import BadInput
from tasks.spec import ProtectedAttribute
from tasks.trust.aif import group_metrics
from tasks.trust.fairness import AttributeReport, examine, group_table
from tasks.trust.groups import BLANK, Outcomes, attribute_labels
from tasks.trust.rates import side_statistics

# group: (true positives, false negatives, false positives, true negatives)
TABLE = {"M": (18, 2, 4, 16), "F": (12, 8, 2, 18)}


def rows_of(table: dict[str, tuple[int, int, int, int]]) -> tuple[pd.Series, Any, Any]:
    groups, truth, predicted = [], [], []
    for name, counts in table.items():
        for count, (true, answer) in zip(counts, [(1, 1), (1, 0), (0, 1), (0, 0)], strict=True):
            groups += [name] * count
            truth += [true] * count
            predicted += [answer] * count
    return pd.Series(groups, name="sex", dtype="string"), np.array(truth), np.array(predicted)


def examined(
    groups: pd.Series, truth: Any, predicted: Any, *, favourable: str = "correct", **options: Any
) -> AttributeReport:
    outcomes = Outcomes.of(
        true_index=truth,
        predicted_index=predicted,
        favourable=None if favourable == "correct" else 1,
        positive=options.pop("positive_index", 1),
    )
    defaults = {"min_group": 10, "positive": "opacity", "draws": 1000}
    attribute = ProtectedAttribute(attribute=str(groups.name), **options.pop("sides", {}))
    labels = attribute_labels(groups.to_frame(), attribute)
    return examine(
        labels, outcomes, attribute=attribute, favourable=favourable, **{**defaults, **options}
    )


def test_metrics_of_a_favourable_class_equal_those_worked_out_by_hand() -> None:
    report = examined(*rows_of(TABLE), favourable="opacity", sides={"privileged": ["M"]})
    values = {name: found.value for name, found in report.metrics.items()}
    # predicted favourable: F 14 of 40, M 22 of 40; true positive rates 0.6, 0.9; false 0.1, 0.2
    assert values["statistical_parity_difference"] == pytest.approx(14 / 40 - 22 / 40)
    assert values["disparate_impact"] == pytest.approx(14 / 22)
    assert values["equal_opportunity_difference"] == pytest.approx(0.6 - 0.9)
    assert values["average_odds_difference"] == pytest.approx(((0.1 - 0.2) + (0.6 - 0.9)) / 2)
    benefit = np.repeat([1.0, 0.0, 2.0], [64, 10, 6])
    ratio = benefit / benefit.mean()
    theil = np.mean([r * np.log(r) if r else 0.0 for r in ratio])
    assert values["theil_index"] == pytest.approx(theil)
    assert values["true_positive_rate_gap"] == pytest.approx(0.3)
    assert values["false_positive_rate_gap"] == pytest.approx(0.1)
    assert values["accuracy_gap"] == pytest.approx(34 / 40 - 30 / 40)
    assert values["worst_group_accuracy"] == pytest.approx(30 / 40)


def test_classified_correctly_is_due_to_everybody() -> None:
    report = examined(*rows_of(TABLE), sides={"privileged": ["M"], "unprivileged": ["F"]})
    values = {name: found.value for name, found in report.metrics.items()}
    difference = 30 / 40 - 34 / 40
    assert values["statistical_parity_difference"] == pytest.approx(difference)
    assert values["equal_opportunity_difference"] == pytest.approx(difference)
    assert values["disparate_impact"] == pytest.approx(30 / 34)
    # nobody is due the unfavourable outcome, so there are no false positives to compare
    assert "average_odds_difference" not in values
    assert report.warnings == []


def test_the_counts_behind_the_intervals_give_what_aif360_gives() -> None:
    generator = np.random.default_rng(5)
    for _ in range(5):
        truth, predicted = generator.integers(0, 2, (2, 200))
        privileged = generator.random(200) < 0.4
        outcomes = Outcomes.of(
            true_index=truth, predicted_index=predicted, favourable=1, positive=None
        )
        theirs = group_metrics(
            truth=outcomes.truth, predicted=outcomes.predicted, privileged=privileged
        )
        cells = outcomes.cells()
        low, high = (np.bincount(cells[side], minlength=32) for side in (~privileged, privileged))
        for name, value in side_statistics(low, high).items():
            assert float(value) == pytest.approx(theirs[name], abs=1e-12), name


def test_a_group_served_worse_is_found_and_named_with_its_numbers() -> None:
    table = {"M": (48, 2, 2, 48), "F": (25, 25, 4, 46)}
    gap = examined(*rows_of(table)).metrics["true_positive_rate_gap"]
    assert gap.value == pytest.approx(0.46)
    assert gap.low is not None and gap.low > 0.25
    assert gap.note == (
        "F: 25 of 50 with opacity found (0.50), M: 48 of 50 with opacity found (0.96)"
    )


def test_groups_that_differ_by_chance_have_an_interval_around_zero() -> None:
    table = {"M": (27, 3, 3, 27), "F": (26, 4, 3, 27)}
    gap = examined(*rows_of(table)).metrics["accuracy_gap"]
    assert gap.low is not None and gap.high is not None
    assert gap.low < 0 < gap.high


def test_patients_with_many_alike_images_make_the_intervals_wider() -> None:
    groups, truth, predicted = rows_of({"M": (40, 10, 10, 40), "F": (30, 20, 10, 40)})
    alone = examined(groups, truth, predicted).metrics
    together = examined(
        groups, truth, predicted, clusters=[str(row // 5) for row in range(len(groups))]
    ).metrics
    for name in ("true_positive_rate_gap", "statistical_parity_difference", "accuracy_gap"):
        one, other = alone[name], together[name]
        assert one.low is not None and one.high is not None
        assert other.low is not None and other.high is not None
        assert other.high - other.low > 1.6 * (one.high - one.low), name


def test_a_ratio_to_nothing_is_told_rather_than_infinite() -> None:
    report = examined(
        *rows_of({"M": (0, 20, 0, 20), "F": (10, 10, 5, 15)}),
        favourable="opacity",
        sides={"privileged": ["M"]},
    )
    assert "disparate_impact" not in report.metrics
    assert report.metrics["statistical_parity_difference"].value == pytest.approx(15 / 40)
    assert report.warnings == ["sex: disparate_impact is undefined, it divides by a rate of zero"]


def test_the_theil_index_is_not_said_to_compare_groups() -> None:
    report = examined(*rows_of({**TABLE, "X": (1, 0, 0, 1)}))
    assert report.metrics["theil_index"].note == "among all 80 rows judged, whatever their group"


def test_the_largest_group_is_the_reference_unless_another_is_declared() -> None:
    table = {"A": (10, 5, 5, 10), "B": (20, 5, 5, 20), "C": (8, 4, 4, 8)}
    roles = {group.name: group.role for group in examined(*rows_of(table)).groups}
    assert roles == {"B": "privileged", "A": "unprivileged", "C": "unprivileged"}
    declared = examined(*rows_of(table), sides={"privileged": ["C"], "unprivileged": ["A"]}).groups
    assert {group.name: group.role for group in declared} == {
        "C": "privileged",
        "A": "unprivileged",
        "B": "not judged",
    }


def test_small_groups_and_blanks_are_listed_but_not_judged() -> None:
    table = {**TABLE, "X": (0, 3, 3, 0)}
    groups, truth, predicted = rows_of(table)
    groups[:6] = pd.NA
    groups[6] = " "
    report = examined(groups, truth, predicted)
    rows = {row["group"]: row for row in group_table(report, confidence=0.95)}
    assert rows[BLANK]["rows"] == 7 and rows[BLANK]["role"] == "not judged"
    assert rows["X"]["accuracy"]["value"] == 0
    assert report.metrics["worst_group_accuracy"].value > 0.5
    assert report.warnings == ["sex: not judged, fewer than 10 test rows: X (6)"]


def test_a_rate_that_rests_on_few_rows_is_not_compared() -> None:
    table = {"M": (18, 2, 4, 16), "F": (0, 3, 2, 18)}
    report = examined(*rows_of(table))
    assert "true_positive_rate_gap" not in report.metrics
    assert "false_positive_rate_gap" in report.metrics
    assert any("true_positive_rate of F rests on fewer than 10" in w for w in report.warnings)


def test_one_group_alone_is_not_compared_but_said_so() -> None:
    report = examined(*rows_of({"M": (18, 2, 4, 16), "F": (1, 1, 1, 1)}))
    assert report.metrics == {}
    assert any("no unprivileged group has 10 test rows" in text for text in report.warnings)


def test_a_declared_group_that_is_absent_is_told() -> None:
    report = examined(*rows_of(TABLE), sides={"privileged": ["Male"]})
    assert any("declared but not among the test rows: Male" in text for text in report.warnings)
    assert "statistical_parity_difference" not in report.metrics


def test_numbers_without_end_are_refused_with_the_way_out() -> None:
    _, truth, predicted = rows_of(TABLE)
    ages = pd.Series(np.arange(len(truth)) + 20.0, name="age")
    with pytest.raises(BadInput, match=r"'age' holds 80 different numbers .* bin\("):
        examined(ages, truth, predicted)


def test_an_intersection_judges_who_is_both() -> None:
    # women and the old are served as well as everybody, old women are not
    rows = pd.DataFrame(
        {
            "sex": ["F", "F", "M", "M"] * 20 + ["F", "M", None],
            "age": ["old", "young", "old", "young"] * 20 + [" ", None, "old"],
        },
        dtype="string",
    )
    truth = np.ones(83, dtype=int)
    predicted = np.where((rows["sex"] == "F").fillna(False) & (rows["age"] == "old"), 0, 1)
    predicted = np.where(np.arange(83) % 8 == 0, 1, predicted)
    attribute = ProtectedAttribute(attribute=" sex * age", privileged=["M & young"])
    assert attribute.attribute == "sex*age" and attribute.columns == ["sex", "age"]
    outcomes = Outcomes.of(true_index=truth, predicted_index=predicted, favourable=None, positive=1)
    report = examine(
        attribute_labels(rows, attribute),
        outcomes,
        attribute=attribute,
        favourable="correct",
        positive="opacity",
        min_group=10,
    )
    sizes = {group.name: (group.rows, group.role) for group in report.groups}
    assert sizes == {
        "M & young": (20, "privileged"),
        "F & old": (20, "unprivileged"),
        "F & young": (20, "unprivileged"),
        "M & old": (20, "unprivileged"),
        BLANK: (3, "not judged"),
    }
    assert report.attribute == "sex*age"
    assert report.metrics["accuracy_gap"].value == pytest.approx(0.5)
    assert report.metrics["worst_group_accuracy"].note.startswith("F & old: 10 of 20 correct")


@pytest.mark.parametrize("given", ["race*", "race**age", "race*race", " * "])
def test_an_intersection_names_different_columns(given: str) -> None:
    with pytest.raises(ValidationError, match=r"is no intersection: .* as in race\*age"):
        ProtectedAttribute(attribute=given)


def test_the_stage_judges_an_intersection_and_names_the_column_that_is_missing(night: Any) -> None:
    images = night.folder("arrange") / "images.parquet"
    table = pd.read_parquet(images)
    table["view"] = ["PA", "AP", "AP", "PA", "PA"] * (len(table) // 5)
    table.to_parquet(images)
    night.commit("arrange")
    protected = [{"attribute": "sex"}, {"attribute": "sex*view"}]
    manifest = night.check("fairness", fairness={"protected": protected, "min_group": 5})
    assert manifest.metrics["fairness.sex*view.accuracy_gap"] == 0
    assert manifest.output("fairness_sex-x-view.png").bytes > 5000
    entry = night.document("fairness", "fairness.json")["attributes"][1]
    assert {row["group"] for row in entry["groups"]} == {
        *("F & AP", "F & PA", "M & AP", "M & PA", BLANK)
    }
    with pytest.raises(BadInput, match=r"column 'region' is not in the arranged data"):
        night.check("fairness", fairness={"protected": [{"attribute": "sex*region"}]})


def test_aif360_is_imported_without_tensorflow_and_without_chatter() -> None:
    script = (
        "import sys, numpy as np; from tasks.trust.aif import group_metrics;"
        "flags = np.arange(8) % 2 == 0;"
        "group_metrics(truth=flags, predicted=flags, privileged=np.arange(8) < 4);"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "" and done.stderr == ""


def test_the_stage_finds_the_planted_bias(night: Any) -> None:
    # a third of the women's films with the finding, missed
    night.evaluate(lambda film: 0 if film.sex == "F" and film.pixels.sum() % 3 == 0 else film.label)
    manifest = night.check("fairness", fairness={"protected": [{"attribute": "sex"}]})
    found = [f for f in night.films if f.sex == "F" and f.label == 1]
    missed = sum(f.pixels.sum() % 3 == 0 for f in found)
    assert missed > 2
    metric = "fairness.sex.true_positive_rate_gap"
    assert manifest.metrics[metric] == pytest.approx(missed / len(found))
    assert manifest.notes[metric].startswith(f"F: {len(found) - missed} of {len(found)}")
    assert manifest.metrics[f"{metric}.low"] <= manifest.metrics[metric]
    # the same films, taken by one patient of each sex: no interval can be told
    images = night.folder("arrange") / "images.parquet"
    table = pd.read_parquet(images)
    table["group_key"] = table["sex"].fillna("nobody")
    table.to_parquet(images)
    night.commit("arrange")
    patients = night.check("fairness", fairness={"protected": [{"attribute": "sex"}]}).metrics
    assert patients[metric] == manifest.metrics[metric]
    assert f"{metric}.low" not in patients
    assert manifest.output("fairness_sex.png").bytes > 5000
    document = night.document("fairness", "fairness.json")
    assert [row["group"] for row in document["attributes"][0]["groups"]][-1] == BLANK


def test_the_stage_names_a_column_that_does_not_exist(night: Any) -> None:
    with pytest.raises(BadInput, match=r"'gender' is not in the arranged data; there are age, "):
        night.check("fairness", fairness={"protected": [{"attribute": "gender"}]})


def test_without_protected_attributes_the_stage_says_that_nothing_was_compared(night: Any) -> None:
    manifest = night.check("fairness")
    assert manifest.metrics == {}
    assert "no protected attribute" in manifest.warnings[0]


def test_a_test_row_without_prediction_is_refused(night: Any) -> None:
    path = night.folder("evaluate") / "predictions.parquet"
    pd.read_parquet(path).iloc[:-2].to_parquet(path)
    night.commit("evaluate")
    with pytest.raises(BadInput, match=r"no prediction for 2 of 60 test images"):
        night.check("fairness", fairness={"protected": [{"attribute": "sex"}]})
