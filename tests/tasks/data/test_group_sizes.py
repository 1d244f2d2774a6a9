"""A value under which a table files everybody it does not know is no patient."""

import re

import pandas as pd
import pytest
import yaml

from tasks.data.group_sizes import large_groups, without_blank_groups
from tasks.spec.data import Split


def _groups(*values: str | None, others: int = 60) -> pd.Series:
    return pd.Series([*values, *(f"p{n}" for n in range(others))], dtype="str")


@pytest.mark.parametrize(
    "value",
    ["unknown", "Unknown ", "-", "?", "none", "anonymous", "N/A", "null", "<unknown>", "n.a."],
)
def test_a_name_for_nobody_is_named_with_the_way_out(value: str) -> None:
    (told,) = large_groups(_groups(value, value), "patientid")
    assert f"{value!r} in 2 of 62 rows" in told
    found = re.search(r"set split.blank_groups: (\[.*?\]),", told)
    assert found is not None and yaml.safe_load(found[1]) == [value]


@pytest.mark.parametrize("value", ["0", "999", "clinic 7"])
def test_any_value_of_more_than_five_percent_of_the_rows_is_named(value: str) -> None:
    assert large_groups(_groups(*[value] * 3), "patientid") == []
    (told,) = large_groups(_groups(*[value] * 6), "patientid")
    assert f"{value!r} in 6 of 66 rows" in told
    assert "more than 5% of the rows" in told and "split.blank_groups" in told


def test_spellings_of_one_value_are_counted_as_one() -> None:
    (told,) = large_groups(_groups("0", "0", "0.0", "00", "0.0", "0 "), "patientid")
    assert "'0' in 6 of 66 rows" in told


def test_groups_of_an_even_size_are_not_named() -> None:
    groups = pd.Series([f"p{n % 10}" for n in range(38)], dtype="str")
    assert large_groups(groups, "patientid") == []


def test_declared_blanks_are_blanks_and_nothing_else_is() -> None:
    groups = _groups("unknown", "UNKNOWN ", "-", None, others=1)
    blank = without_blank_groups(groups, Split(group="patientid", blank_groups=["Unknown"]))
    assert blank.isna().tolist() == [True, True, False, True, False]
    assert without_blank_groups(groups, Split(group="patientid")) is groups
