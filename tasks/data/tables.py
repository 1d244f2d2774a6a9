"""Reads and writes the metadata table, and names columns that are not there."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract import BadInput
from tasks.spec.foreign_text import shown

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path) -> "pd.DataFrame":
    """Return a table; texts have pandas' ``str`` type, blanks are NA."""
    import pandas as pd

    return pd.read_parquet(path)


def write_table(table: "pd.DataFrame", path: Path) -> None:
    """Write a table, the same bytes for the same table."""
    table.to_parquet(path, index=False)


def quoted(value: object) -> str:
    """Return a cell for a message: in quotes, and no longer than a line bears."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def column(table: "pd.DataFrame", name: str, asked_by: str) -> "pd.Series":
    """Return a column.

    Raises
    ------
    BadInput
        There is none of that name; names those that come closest.
    """
    if name in table.columns:
        return table[name]
    raise BadInput(f"{asked_by}: there is no column {name!r}; {_nearest(table, name)}")


def _nearest(table: "pd.DataFrame", name: str) -> str:
    names = [str(column) for column in table.columns]
    folded = {candidate.lower(): candidate for candidate in names}
    close = [folded[c] for c in difflib.get_close_matches(name.lower(), folded, n=3)]
    if close:
        meant = " or ".join(shown(name, 60) for name in close)
        return f"did you mean {meant}? (columns: {_listed(names)})"
    return f"the columns are {_listed(names)}"


def _listed(names: list[str]) -> str:
    return ", ".join(shown(name, 60) for name in names[:40]) + (" ..." if len(names) > 40 else "")
