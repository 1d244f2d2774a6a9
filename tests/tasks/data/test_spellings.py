"""Values that mean the same and are written differently are named, and made equal on request."""

import pandas as pd
import pytest

from tasks.data.functions import apply_transform
from tasks.data.spellings import normalised, spelling_problem
from tasks.spec.data import Transform


@pytest.mark.parametrize(
    "spelled",
    [
        ["a", "A", " a", "a ", "A\t"],
        ["1", "1.0", "01", "1.", "+1", " 1 ", "1.00"],
        ["true", "TRUE", "True"],
        ["COVID-19", "Covid-19", "covid-19 "],
        ["no  finding", "No finding", "no\u00a0finding"],
        ["h\u00fcfte", "hu\u0308fte", "H\u00fcfte"],
        ["0", "00", "-0", "0.0"],
        ["0.5", "00.50"],
        ["cat", "cat\u200b", "\ufeffcat", "ca\u00adt", "\u200ecat"],
        ["normal", "\uff2e\uff4f\uff52\uff4d\uff41\uff4c", "Normal\u3000"],
        ["12", "\uff11\uff12"],
    ],
)
def test_spellings_of_one_value_are_named_with_their_rows(spelled: list[str]) -> None:
    values = pd.Series([*spelled, *spelled[:1], "other", None], dtype="str")
    problem = spelling_problem(values, "finding")
    assert problem is not None
    assert f"{spelled[0]!r} (2 rows)" in problem
    assert problem.endswith('a transform {column: finding, function: "normalise()"}')
    assert len({normalised(value) for value in spelled}) == 1


@pytest.mark.parametrize(
    "different",
    [
        ["1", "10", "1.5", "-1", "0.1"],
        ["a", "b", "ab", "a b"],
        ["v1", "v1.0", "v01"],
        ["resume", "résumé"],
        ["true", "1", "yes"],
        ["1.2.3", "1.2.30"],
        # a joiner makes another word
        ["\u0645\u06cc\u200c\u0631\u0648\u0645", "\u0645\u06cc\u0631\u0648\u0645"],
        ["m2", "m\u00b2"],
    ],
)
def test_different_values_stay_different(different: list[str]) -> None:
    assert spelling_problem(pd.Series(different, dtype="str"), "finding") is None
    assert len({normalised(value) for value in different}) == len(different)


def test_a_transform_makes_them_equal() -> None:
    table = pd.DataFrame({"finding": pd.Series(["A ", "a", None, "01", "1.0"], dtype="str")})
    transform = Transform(column="finding", function="normalise()", into="label")
    assert apply_transform(table, transform) == []
    assert table["label"].fillna("").tolist() == ["a", "a", "", "1", "1"]
