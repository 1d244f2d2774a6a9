"""Finds groups that are none: the one value under which a table files everybody it does not know.

Such a value is never taken for a blank unasked: a wrong guess would put the images of one patient
on both sides of the split. Left alone, all its images are on one side, which is safe but may be
lopsided; so it is named, and ``split.blank_groups`` makes blanks of it.
"""

import json
import math
from collections import Counter
from typing import TYPE_CHECKING

from tasks.data.spellings import normalised
from tasks.data.tables import quoted
from tasks.spec.data import Split

if TYPE_CHECKING:
    import pandas as pd

LARGE_SHARE = 0.05
"""Share of the rows above which a group is named."""

_EXAMPLES = 5
_NOBODY = frozenset(
    "unknown|unk|none|nobody|anonymous|anonym|anon|anonymized|anonymised|n/a|na|n.a.|#n/a|nan|nil|"
    "null|missing|undefined|unspecified|not available|not known|not recorded|not specified|tbd|"
    "-|--|---|?|??|???|.|*|_|x|xx|xxx|unbekannt|keine|inconnu|desconocido|sconosciuto".split("|")
)
"""What tables write where nobody knows. Numbers are no such words: they may be a patient."""


def without_blank_groups(groups: "pd.Series", split: Split) -> "pd.Series":
    """Return a column of groups with the values of ``split.blank_groups`` as blanks."""
    blank = {normalised(value) for value in split.blank_groups}
    return groups.mask(groups.map(normalised, na_action="ignore").isin(blank)) if blank else groups


def large_groups(groups: "pd.Series", column: str) -> list[str]:
    """Name groups of more than 5 % of the rows, and smaller ones whose name says that it is none.

    Parameters
    ----------
    groups : Series
        Group of each row as text; blanks count as rows only.
    column : str
        Name of the column, for the message.
    """
    # 0, 0.0 and 00 are one value, and split.blank_groups means all of them
    counts: Counter[str] = Counter()
    called: dict[str, str] = {}
    for value, n in Counter(groups.dropna()).most_common():
        counts[called.setdefault(normalised(value), value)] += n
    usual = math.ceil(counts.total() / max(1, len(counts)))
    rows = len(groups)
    large = [
        (value, n)
        for value, n in counts.most_common()
        if n > usual and n > LARGE_SHARE * rows and not _is_nobody(value)
    ]
    nobody = [(value, n) for value, n in counts.most_common() if n > 1 and _is_nobody(value)]
    warnings = []
    if nobody:
        named = ", ".join(json.dumps(v, ensure_ascii=False) for v, _ in nobody[:_EXAMPLES])
        warnings.append(
            f"{column!r} is {_shown(nobody, rows)}; each counts as one group, all on one side of "
            f"the split: if it means that nobody knows, set split.blank_groups: [{named}], and "
            "each of these images is a group of its own"
        )
    if large:
        warnings.append(
            f"{column!r} is {_shown(large, rows)}; each is more than {LARGE_SHARE:.0%} of the rows "
            "and all on one side of the split: if it is no single group, correct the column, or "
            "make a blank of it with split.blank_groups"
        )
    return warnings


def _is_nobody(value: str) -> bool:
    return normalised(value).strip("<>()[] ") in _NOBODY


def _shown(found: list[tuple[str, int]], rows: int) -> str:
    shown = ", ".join(f"{quoted(value)} in {n} of {rows} rows" for value, n in found[:_EXAMPLES])
    return shown + (f" and {len(found) - _EXAMPLES} more values" if len(found) > _EXAMPLES else "")
