"""Each check finds what it is there for, and says so in one line."""

from typing import Any

import pandas as pd
import pytest

from tasks.data.validation import Check, validate
from tasks.spec import Pipeline

TAKEN_IN = {"rows": 100, "usable": 100, "missing": 0, "quarantined": 0}


@pytest.fixture
def table() -> pd.DataFrame:
    """100 images, two classes, every fourth row in the test set, two women in three."""
    numbers = range(100)
    return pd.DataFrame(
        {
            "image_id": [f"{n}.png" for n in numbers],
            "image_sha256": [f"digest {n}" for n in numbers],
            "split_side": ["test" if n % 4 == 0 else "train" for n in numbers],
            "class_name": ["well" if n % 8 < 4 else "ill" for n in numbers],
            "group_key": [f"p{n}" for n in numbers],
            "sex": ["M" if n % 3 == 0 else "F" for n in numbers],
        }
    )


def _check(
    table: pd.DataFrame, taken_in: dict[str, Any] = TAKEN_IN, **sections: Any
) -> dict[str, Check]:
    document = {
        "name": "x",
        "source": {"kind": "csv_images", "uri": "x"},
        "label": {"column": "finding"},
        **sections,
    }
    pipeline = Pipeline.model_validate(document)
    checks = validate(table, ["well", "ill"], taken_in=taken_in, pipeline=pipeline)
    assert all("\n" not in check.message for check in checks)
    return {check.name: check for check in checks}


def test_sound_data_pass_every_check(table: pd.DataFrame) -> None:
    checks = _check(table, fairness={"protected": [{"attribute": "sex"}], "min_group": 5})
    assert {check.severity for check in checks.values()} == {"ok"}
    counts = checks["groups of sex in the test set"].counts
    assert sum(counts.values()) == 25
    assert set(counts) == {"F, ill", "F, well", "M, ill", "M, well"}


def test_an_intersection_is_counted_by_who_is_both(table: pd.DataFrame) -> None:
    table["age"] = ["old" if n % 5 == 0 else "young" for n in range(100)]
    table.loc[0, "age"] = None
    fairness = {"protected": [{"attribute": "sex*age"}], "min_group": 5}
    checks = _check(table, fairness=fairness)
    check = checks["groups of sex*age in the test set"]
    groups = {name.rpartition(", ")[0] for name in check.counts}
    assert groups == {"F & old", "F & young", "M & old", "M & young", "(blank)"}
    assert check.severity == "warning"
    assert check.message.startswith("F & old, M & old below 5 rows are not judged")
    missing = _check(table.drop(columns="age"), fairness=fairness)["columns"]
    assert "no column 'age' (fairness.protected)" in missing.message


def test_absent_and_blank_columns_are_errors_that_name_who_asked(table: pd.DataFrame) -> None:
    check = _check(
        table,
        validate={"required_columns": ["view"]},
        fairness={"protected": [{"attribute": "age_group"}]},
    )["columns"]
    assert check.severity == "error"
    assert "'view' (validate.required_columns), 'age_group' (fairness.protected)" in check.message
    table["sex"] = None
    check = _check(table, fairness={"protected": [{"attribute": "sex"}]})["columns"]
    assert (check.severity, check.message) == ("error", "column 'sex' is all blank")


def test_too_few_rows_and_too_small_classes_are_errors(table: pd.DataFrame) -> None:
    few = table[(table["class_name"] == "well") | (table.index >= 92)]
    checks = _check(few, validate={"min_rows": 80})
    assert checks["rows"].severity == "error"
    assert "ill has 4 of at least 10 rows (validate.min_per_class)" in checks["class sizes"].message
    assert checks["class sizes in the test set"].severity == "error"
    assert checks["class sizes in the test set"].counts == {"well": 13, "ill": 1}


def test_a_class_without_training_rows_is_an_error(table: pd.DataFrame) -> None:
    table.loc[table["class_name"] == "ill", "split_side"] = "test"
    assert _check(table)["class sizes in the training set"].severity == "error"


def test_an_overwhelming_class_is_a_warning(table: pd.DataFrame) -> None:
    check = _check(table, validate={"max_class_share": 0.4})["class balance"]
    assert check.severity == "warning"
    assert "52.0%" in check.message


@pytest.mark.parametrize(("leakage", "severity"), [("error", "error"), ("warn", "warning")])
@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("group_key", "the same group on both sides of the split"),
        ("image_sha256", "the same image on both sides of the split"),
    ],
)
def test_leakage_is_found_and_means_what_the_pipeline_says(
    table: pd.DataFrame, column: str, name: str, leakage: str, severity: str
) -> None:
    table.loc[[4, 5], column] = "shared"
    table.loc[[8, 9, 10], column] = "shared too"
    check = _check(table, validate={"leakage": leakage})[name]
    assert check.severity == severity
    assert check.counts == {"shared": 2, "rows": 5}
    assert "test 4.png and train 5.png" in check.message


def test_equal_images_are_counted_and_torn_labels_named(table: pd.DataFrame) -> None:
    table.loc[[1, 2], "image_sha256"] = "same"
    table.loc[[3, 5], "image_sha256"] = "torn"
    checks = _check(table)
    assert checks["duplicate images"].severity == "warning"
    assert checks["duplicate images"].counts == {"rows": 2}
    assert "3.png (well), 5.png (ill)" in checks["one label an image"].message


def test_what_ingest_left_out_is_a_warning(table: pd.DataFrame) -> None:
    taken_in = {"rows": 130, "usable": 100, "missing": 20, "quarantined": 10}
    check = _check(table, taken_in)["missing and unusable images"]
    assert check.severity == "warning"
    assert check.message == "20 of 130 rows without image, 10 images quarantined"


def test_declared_groups_that_nobody_belongs_to_and_small_ones_are_warnings(
    table: pd.DataFrame,
) -> None:
    protected = [{"attribute": "sex", "privileged": ["male"]}]
    check = _check(table, fairness={"protected": protected})["groups of sex in the test set"]
    assert check.severity == "warning"
    assert "no test row is male; there are F 16, M 9" in check.message
    check = _check(table, fairness={"protected": [{"attribute": "sex"}], "min_group": 12})[
        "groups of sex in the test set"
    ]
    assert "M below 12 rows are not judged" in check.message


def test_blanks_of_a_protected_attribute_are_counted_apart(table: pd.DataFrame) -> None:
    table.loc[table.index % 8 == 0, "sex"] = None
    check = _check(table, fairness={"protected": [{"attribute": "sex"}], "min_group": 1})[
        "groups of sex in the test set"
    ]
    assert check.severity == "ok"
    assert "(blank) 13" in check.message


def test_a_favourable_outcome_that_is_no_class_is_an_error_before_training(
    table: pd.DataFrame,
) -> None:
    check = _check(table, fairness={"favourable": "wel"})["favourable outcome"]
    assert check.severity == "error"
    assert check.message == (
        "fairness.favourable 'wel' is neither 'correct' nor a class; there is well, ill"
    )
    assert _check(table, fairness={"favourable": "ill"})["favourable outcome"].severity == "ok"


@pytest.mark.parametrize(("most", "severity"), [(0.01, "error"), (0.02, "warning")])
def test_images_with_two_labels_are_held_against_the_limit(
    table: pd.DataFrame, most: float, severity: str
) -> None:
    table.loc[[1, 5], "image_sha256"] = "torn"
    label = {"column": "finding", "max_conflicting": most}
    check = _check(table, label=label)["one label an image"]
    assert check.severity == severity
    assert f"(1.0%; label.max_conflicting is {most:.1%})" in check.message


def test_rows_that_repeat_a_file_are_counted(table: pd.DataFrame) -> None:
    taken_in = {"rows": 10_000, "usable": 40, "missing": 0, "quarantined": 0}
    check = _check(table, {**taken_in, "by_status": {"ok": 40, "repeated": 9960}})[
        "missing and unusable images"
    ]
    assert check.severity == "warning" and check.counts["repeated"] == 9960
    assert "9960 rows that name the file of an earlier one" in check.message


def test_groups_that_differ_by_their_spelling_only_are_named(table: pd.DataFrame) -> None:
    table.loc[[1, 2], "sex"] = ["f ", "M"]
    check = _check(table, fairness={"protected": [{"attribute": "sex"}], "min_group": 1})[
        "one spelling a value of sex"
    ]
    assert check.severity == "warning"
    assert "'F' (64 rows) and 'f ' (1 rows)" in check.message
