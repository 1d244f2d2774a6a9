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
# what nobody sees and word processors leave behind: soft hyphens, zero width spaces, directions;
# joiners, which scripts need, are none
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_OTHER_WIDTH = re.compile("[\u3000\uff01-\uff9f\uffe0-\uffee]+")
_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:\.(\d*?)0*)?")


def normalised(value: str) -> str:
    """Return the one spelling of a value: lower case, single blanks, numbers without padding,
    nothing invisible.

    ``" COVID-19"`` becomes ``covid-19``, ``01`` and ``1.0`` become ``1``, ``TRUE`` becomes
    ``true``.
    """
    text = " ".join(unicodedata.normalize("NFC", seen(value)).lower().split())
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    sign = "-" if number[1] == "-" and (number[2].strip("0") or number[3]) else ""
    return f"{sign}{number[2]}" + (f".{number[3]}" if number[3] else "")


def seen(text: str) -> str:
    """Return a text as a reader sees it: without invisible characters, letters of one width."""
    plain = _UNSEEN.sub("", text)
    return _OTHER_WIDTH.sub(lambda wide: unicodedata.normalize("NFKC", wide[0]), plain)


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
