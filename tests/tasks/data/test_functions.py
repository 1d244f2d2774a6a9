"""Column functions on real pandas columns."""

import pandas as pd
import pytest

from tasks.contract import BadConfig, BadInput
from tasks.data.functions import apply_transform, as_text
from tasks.spec import Transform


def _apply(
    values: list[object], function: str, into: str | None = None
) -> tuple[list[object], list[str], pd.DataFrame]:
    table = pd.DataFrame({"column": pd.Series(values, dtype="str")})
    transform = Transform(column="column", function=function, into=into)
    warnings = apply_transform(table, transform)
    result = table[into or "column"]
    return [None if pd.isna(v) else v for v in result], warnings, table


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        (
            "replace('/','_')",
            ["Pneumonia/Viral/COVID-19", None],
            ["Pneumonia_Viral_COVID-19", None],
        ),
        ("replace('.','')", ["a.b"], ["ab"]),
        ("lower()", ["PA", None], ["pa", None]),
        ("upper()", ["pa"], ["PA"]),
        ("strip()", [" a "], ["a"]),
        ("map({'M': 'male'})", ["M", "F", None], ["male", "F", None]),
        ("map({'M': 'male'}, default='other')", ["M", "F", None], ["male", "other", None]),
        ("map({1: 'one'})", ["1", "2"], ["one", "2"]),
        ("map({1234567: 'a'})", ["1234567", "1234568"], ["a", "1234568"]),
        ("fill(1234567)", [None], ["1234567"]),
        ("map({'Y': 1, 'N': 0}, default=None)", ["Y", "N", "?"], [1.0, 0.0, None]),
        ("regex('_day([0-9]+)$', '-\\\\1')", ["a_day12", "b", None], ["a-12", "b", None]),
        ("fill('unknown')", ["M", None], ["M", "unknown"]),
        ("to_number()", ["65", " 7.5", None], [65.0, 7.5, None]),
        (
            "bin([0, 40, 60])",
            ["0", "40", "60", "200", None],
            ["0 to 40", "40 to 60", *["60 and over"] * 2, None],
        ),
        ("bin([0, 40, 60], labels=['young', 'old'])", ["39", "59"], ["young", "old"]),
        ("bin([0, 40], labels=['young', 'old'])", ["39", "99"], ["young", "old"]),
    ],
)
def test_a_function_changes_values_and_leaves_blanks_blank(
    function: str, values: list[object], expected: list[object]
) -> None:
    result, warnings, _ = _apply(values, function)
    assert result == expected
    assert warnings == []


def test_a_result_may_go_into_a_new_column() -> None:
    result, _, table = _apply(["70"], "bin([0, 40, 60])", into="age_group")
    assert result == ["60 and over"]
    assert list(table["column"]) == ["70"]


def test_numbers_that_are_none_are_left_blank_and_counted() -> None:
    result, warnings, _ = _apply(["65", "65Y", "unknown", "inf"], "to_number()")
    assert result == [65.0, None, None, None]
    assert warnings == [
        "transform to_number() of column: 3 values are no numbers, left blank: "
        "'65Y', 'unknown', 'inf'"
    ]


def test_numbers_outside_all_groups_are_left_blank_and_counted() -> None:
    result, warnings, _ = _apply(["-1", "50", "120"], "bin([0, 100], labels=['all'])")
    assert result == [None, "all", None]
    assert "2 values fall outside [0, 100]" in warnings[0]


def test_texts_and_numbers_may_be_binned_after_each_other() -> None:
    table = pd.DataFrame({"age": pd.Series(["30", "70", None], dtype="str")})
    apply_transform(table, Transform(column="age", function="to_number()"))
    apply_transform(table, Transform(column="age", function="bin([0, 40])", into="group"))
    apply_transform(table, Transform(column="age", function="replace('7', 'x')", into="text"))
    assert list(table["group"][:2]) == ["0 to 40", "40 and over"]
    assert list(table["text"][:2]) == ["30", "x0"]
    assert table.loc[2].isna().all()


def test_a_pattern_that_would_backtrack_for_ever_ends_at_once() -> None:
    result, _, _ = _apply(["a" * 5000 + "!"], "regex('(a+)+$', 'x')")
    assert result == ["a" * 5000 + "!"]


def test_an_unknown_column_is_named_with_those_that_come_closest() -> None:
    table = pd.DataFrame({"finding": ["a"], "view": ["PA"]})
    with pytest.raises(BadInput, match=r"no column 'Findings'; did you mean finding\?"):
        apply_transform(table, Transform(column="Findings", function="lower()"))


def test_large_numbers_stay_apart_as_texts() -> None:
    table = pd.DataFrame({"patient": pd.Series(["1234567", "1234568", "0.1", None], dtype="str")})
    apply_transform(table, Transform(column="patient", function="to_number()"))
    assert as_text(table["patient"]).tolist()[:3] == ["1234567", "1234568", "0.1"]


@pytest.mark.parametrize("into", ["image_id", "image_status", "split_side", "group_key"])
def test_columns_of_the_stages_cannot_be_written(into: str) -> None:
    table = pd.DataFrame({"finding": ["a"], into: ["x"]})
    with pytest.raises(BadConfig, match=f"'{into}' is kept by the stages; write into another"):
        apply_transform(table, Transform(column="finding", function="lower()", into=into))


def _merge(function: str, **columns: list[object]) -> tuple[list[object], list[str]]:
    table = pd.DataFrame({name: pd.Series(v, dtype="str") for name, v in columns.items()})
    warnings = apply_transform(table, Transform(column="finding", function=function))
    return [None if pd.isna(v) else v for v in table["finding"]], warnings


def test_values_with_few_rows_are_merged_and_named() -> None:
    result, warnings = _merge("merge_rare(2, into='rest')", finding=["a", "a", "b", None, "c", "a"])
    assert result == ["a", "a", "rest", None, "rest", "a"]
    assert warnings == [
        "transform merge_rare(2, into='rest') of finding: 2 values with fewer than 2 rows are "
        "merged into 'rest' (2 rows): 'b' (1), 'c' (1)"
    ]
    assert _merge("merge_rare(1, into='rest')", finding=["a", None])[1] == []


def test_a_value_is_rare_if_few_patients_have_it_however_many_rows() -> None:
    columns = {"finding": ["a"] * 4 + ["b"] * 3, "patient": ["1", "1", "1", "1", "2", "3", None]}
    result, _ = _merge("merge_rare(2, into='rest', per='patient')", **columns)
    assert result == ["rest"] * 4 + ["b"] * 3


def test_rows_that_will_not_be_used_do_not_count() -> None:
    columns = {
        "finding": ["a", "a", "a", "b", "b"],
        "view": ["CT", "CT", "PA", "PA", "PA"],
        "image_status": ["ok", "ok", "ok", "ok", "missing"],
    }
    where = "where=\"metadata.view != 'CT'\""
    assert _merge("merge_rare(2, into='c')", **columns)[0] == ["a", "a", "a", "c", "c"]
    assert _merge(f"merge_rare(1, into='c', {where})", **columns)[0] == ["a", "a", "a", "b", "b"]
    assert _merge(f"merge_rare(2, into='c', {where})", **columns)[0] == ["c"] * 5


def test_the_name_that_others_are_merged_into_is_not_merged_itself() -> None:
    result, warnings = _merge("merge_rare(2, into='rest')", finding=["rest", "a", "b", "b"])
    assert result == ["rest", "rest", "b", "b"]
    assert "1 values" in warnings[0]


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("merge_rare(5)", "takes one number and into="),
        ("merge_rare('5', into='a')", "whole number of at least 1"),
        ("merge_rare(True, into='a')", "whole number of at least 1"),
        ("merge_rare(0, into='a')", "whole number of at least 1"),
        ("merge_rare(5, into='')", "are texts"),
        ("merge_rare(5, into='a', per=3)", "are texts"),
        ("merge_rare(5, into='a', where='__import__(1)')", "where|predicate"),
    ],
)
def test_a_merge_that_makes_no_sense_is_refused_when_the_file_is_read(
    function: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Transform(column="finding", function=function)


def test_a_column_that_is_not_there_to_count_by_is_named() -> None:
    with pytest.raises(BadInput, match="no column 'pateint'; did you mean patient"):
        _merge("merge_rare(2, into='a', per='pateint')", finding=["a"], patient=["1"])
