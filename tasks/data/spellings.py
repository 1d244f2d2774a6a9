"""Finds values that are written differently and mean the same: by case, blanks, number format."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tasks.data.tables import quoted

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES = 5
_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:\.(\d*?)0*)?")


def normalised(value: str) -> str:
    """Return the one spelling of a value: lower case, single blanks, numbers without padding.

    ``" COVID-19"`` becomes ``covid-19``, ``01`` and ``1.0`` become ``1``, ``TRUE`` becomes
    ``true``.
    """
    text = " ".join(unicodedata.normalize("NFC", value).lower().split())
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    sign = "-" if number[1] == "-" and (number[2].strip("0") or number[3]) else ""
    return f"{sign}{number[2]}" + (f".{number[3]}" if number[3] else "")


def alike(values: Iterable[str]) -> list[list[tuple[str, int]]]:
    """Return the values of which there is more than one spelling, each with its rows."""
    together: dict[str, list[tuple[str, int]]] = {}
    for value, rows in sorted(Counter(values).items()):
        together.setdefault(normalised(value), []).append((value, rows))
    return [spelled for spelled in together.values() if len(spelled) > 1]


def spelling_problem(values: "pd.Series", column: str) -> str | None:
    """Return a sentence that names the spellings of one value in a column; None if all differ.

    Parameters
    ----------
    values : Series
        The column as texts; blanks are left out.
    column : str
        Its name, for the sentence.
    """
    found = alike(values.dropna())
    if not found:
        return None
    shown = "; ".join(
        " and ".join(f"{quoted(value)} ({rows} rows)" for value, rows in spelled[:_EXAMPLES])
        for spelled in found[:_EXAMPLES]
    )
    more = f"; and {len(found) - _EXAMPLES} more" if len(found) > _EXAMPLES else ""
    return (
        f"{column!r} holds values that differ only by case, blanks or number format, and count as "
        f"different: {shown}{more}; make them one with a transform {{column: {column}, function: "
        '"normalise()"}'
    )
