"""Reads a table of comma- or tab-separated text, row by row."""

import csv
from collections.abc import Iterator
from pathlib import Path

from tasks.contract import BadInput

BLANKS = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "<NA>"})
"""Cells that mean that nothing was recorded."""

_LONGEST_CELL = 16 * 1024 * 1024


def read_header(table: Path, *, required: str, asked_by: str) -> list[str]:
    """Return the names of a table's columns; one without a name is numbered.

    Parameters
    ----------
    table : Path
        UTF-8, separated by commas, or by tabs where it is called ``.tsv``.
    required : str
        Column that must be there.
    asked_by : str
        What says so, for the message.

    Raises
    ------
    BadInput
        It is no such table, lacks the column, or names one twice.
    """
    # a comma at the line's end makes a column without a name
    header = next(_records(table), [])
    columns = [name.strip() or f"unnamed_{number}" for number, name in enumerate(header, 1)]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise BadInput(f"{table.name}: column {twice[0]!r} appears more than once in the header")
    if required not in columns:
        raise BadInput(
            f"{table.name}: has no column {required!r} ({asked_by}); "
            f"its columns are {', '.join(columns[:40]) or 'none: the file is empty'}"
        )
    return columns


def read_rows(table: Path, width: int) -> Iterator[list[str | None]]:
    """Return the rows below the header, with None for blanks; empty rows are left out.

    Parameters
    ----------
    table : Path
        As for :func:`read_header`.
    width : int
        Number of columns; a short row is filled up with blanks.

    Raises
    ------
    BadInput
        A row has more cells than that, or the file cannot be read.
    """
    records = _records(table)
    next(records, None)
    for number, cells in enumerate(records, 1):
        if not any(cells):
            continue
        surplus = [cell for cell in cells[width:] if cell.strip()]
        if surplus:
            raise BadInput(
                f"{table.name}: row {number} has {len(cells)} cells where the header has {width} "
                f"columns (surplus: {surplus[0][:60]!r}); a comma within a cell needs quotes"
            )
        row: list[str | None] = [None if c.strip() in BLANKS else c for c in cells[:width]]
        yield row + [None] * (width - len(row))


def _records(table: Path) -> Iterator[list[str]]:
    csv.field_size_limit(_LONGEST_CELL)
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            delimiter = "\t" if table.suffix == ".tsv" else ","
            yield from csv.reader(stream, delimiter=delimiter, strict=True)
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{table.name}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except csv.Error as error:
        raise BadInput(f"{table.name}: cannot be read as a table: {error}") from None


def listing(folder: Path) -> str:
    """Name what a folder holds, for a message."""
    if not folder.is_dir():
        return "no such folder"
    names = sorted(f"{e.name}/" if e.is_dir() else e.name for e in folder.iterdir())
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "") or "nothing"
