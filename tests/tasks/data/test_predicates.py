"""Predicates on real pandas columns."""

import pandas as pd
import pytest

from tasks.contract import BadConfig, BadInput
from tasks.data.filtering import apply_filters
from tasks.data.predicates import rows_where


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "filename": ["a.png", "b.nii.gz", "c.jpg", "dogz.png"],
            "finding": ["No Finding", "todo", "Pneumonia/Viral", None],
            "sex": ["M", "F", None, "F"],
            "age": ["18", "64.5", None, "9"],
            "two words": ["x", "y", "z", "x"],
        },
        dtype="str",
    ).assign(width=[64, 128, 256, 64])


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        # the paper's own spelling; its dot is any character, so 'dogz' is met as well
        ("~metadata.filename.str.contains('.gz')", [1, 0, 1, 0]),
        ("~metadata.filename.str.contains('.gz', regex=False)", [1, 0, 1, 1]),
        ("~metadata.filename.str.endswith('.gz')", [1, 0, 1, 1]),
        ("metadata.filename.str.endswith(('.png', '.jpg'))", [1, 0, 1, 1]),
        ("metadata.filename.str.contains('\\.GZ$', case=False)", [0, 1, 0, 0]),
        ("metadata.finding.str.match('Pneumonia')", [0, 0, 1, 0]),
        ("metadata.finding.str.fullmatch('todo|No Finding')", [1, 1, 0, 0]),
        ("metadata.finding.str.contains('x', na=True)", [0, 0, 0, 1]),
        ("metadata.finding.str.lower().str.startswith('no')", [1, 0, 0, 0]),
        ("metadata.finding != 'todo'", [1, 0, 1, 1]),
        ("metadata.finding == 'todo'", [0, 1, 0, 0]),
        ("metadata.age > 18", [0, 1, 0, 0]),
        ("metadata['age'] >= 18 and metadata.sex.notna()", [1, 1, 0, 0]),
        ("not metadata.age > 18", [1, 0, 1, 1]),
        ("metadata.age.between(9, 18)", [1, 0, 0, 1]),
        ("metadata.age.between(9, 18, inclusive='right')", [1, 0, 0, 0]),
        ("9 < metadata.age <= 64.5", [1, 1, 0, 0]),
        ("metadata.sex.isin(['F'])", [0, 1, 0, 1]),
        ("metadata.width.isin([64, 256])", [1, 0, 1, 1]),
        ("metadata.age.isin([18, 9])", [1, 0, 0, 1]),
        ("metadata.sex.isna() | (metadata.width == 128)", [0, 1, 1, 0]),
        ("metadata.width * 2 - 100 > 100 % 30 + metadata.age", [0, 1, 0, 1]),
        ("-metadata.width < -100", [0, 1, 1, 0]),
        ("metadata.filename.str.len() > 5", [0, 1, 0, 1]),
        ("metadata['two words'] == 'x'", [1, 0, 0, 1]),
        ("metadata.finding == metadata.finding", [1, 1, 1, 0]),
        ("metadata.width == '64'", [1, 0, 0, 1]),
        ("(metadata.width == 64) & (metadata.sex == 'M')", [1, 0, 0, 0]),
    ],
)
def test_a_predicate_holds_for_the_rows_it_should(
    table: pd.DataFrame, predicate: str, expected: list[int]
) -> None:
    assert rows_where(table, predicate).astype(int).tolist() == expected


def test_an_unknown_column_names_the_predicate_and_the_closest(table: pd.DataFrame) -> None:
    with pytest.raises(
        BadInput, match=r"filter metadata.gender == 'F': there is no column 'gender'"
    ):
        rows_where(table, "metadata.gender == 'F'")
    with pytest.raises(BadInput, match=r"did you mean filename"):
        rows_where(table, "metadata.file_name.isna()")


def test_a_text_that_is_compared_with_a_number_names_its_row(table: pd.DataFrame) -> None:
    table.loc[3, "age"] = "nine"
    with pytest.raises(BadInput, match=r"column 'age' holds 'nine' \(row 4\).*to_number\(\)"):
        rows_where(table, "metadata.age > 18")


def test_division_by_zero_and_refused_text_are_configuration_errors(table: pd.DataFrame) -> None:
    with pytest.raises(BadConfig, match="divides by zero"):
        rows_where(table, "metadata.width > 1 / 0")
    with pytest.raises(BadConfig, match="__class__"):
        rows_where(table, "metadata.__class__ == 1")


def test_filters_count_before_and_after_each(table: pd.DataFrame) -> None:
    kept, steps = apply_filters(table, ["metadata.finding != 'todo'", "metadata.width < 200"])
    assert [(step.before, step.after) for step in steps] == [(4, 3), (3, 2)]
    assert list(kept["filename"]) == ["a.png", "dogz.png"]


def test_a_predicate_that_leaves_nothing_is_named_with_the_values_there_are(
    table: pd.DataFrame,
) -> None:
    with pytest.raises(BadInput, match=r"leaves none of 4 rows; sex holds 'F' \(2\)"):
        apply_filters(table, ["metadata.sex == 'female'"])


def test_a_product_of_huge_numbers_is_infinite_not_an_error(table: pd.DataFrame) -> None:
    huge = " * ".join(["1000000000000000"] * 40)
    assert not rows_where(table, f"metadata.width > {huge} / 3").any()


def test_a_long_cell_is_not_told_in_full() -> None:
    table = pd.DataFrame({"notes": pd.Series(["n" * 30_000], dtype="str")})
    with pytest.raises(BadInput, match=r"holds 'nnn.*\.\.\. \(row 1\)") as caught:
        rows_where(table, "metadata.notes > 1")
    with pytest.raises(BadInput, match=r"leaves none of 1 rows") as emptied:
        apply_filters(table, ["metadata.notes == 'x'"])
    assert max(len(str(caught.value)), len(str(emptied.value))) < 400
