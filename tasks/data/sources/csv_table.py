"""Reads a table of separated text, row by row."""

from collections.abc import Iterator
from pathlib import Path

from tasks.contract import BadInput
from tasks.data.sources.table_text import DELIMITERS, records, text_form

BLANKS = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "<NA>"})
"""Cells that mean that nothing was recorded."""


class CsvTable:
    """A table with a header.

    Parameters
    ----------
    table : Path
        Comma-separated UTF-8 (``.tsv``: tabs), or what is told from it without doubt: another
        separator, UTF-16, Windows-1252, Excel's line ``sep=``.
    required : str
        Column that must be there.
    asked_by : str
        What says so, for the message.
    encoding : str, optional
        ``source.encoding``; found out where it is not given.

    Attributes
    ----------
    columns : list of str
        Names in the header; a column without one is numbered.
    warnings : list of str
        How the table is written, where that is not the usual way.

    Raises
    ------
    BadInput
        It is no such table, lacks the column, or names one twice.
    """

    def __init__(
        self, table: Path, *, required: str, asked_by: str, encoding: str | None = None
    ) -> None:
        self._table = table
        self._form = text_form(table, required=required, encoding=encoding)
        # a comma at the line's end makes a column without a name
        header = next((cells for cells in records(table, self._form) if any(cells)), [])
        self.columns = [
            name.strip() or f"unnamed_{number}" for number, name in enumerate(header, 1)
        ]
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            raise BadInput(
                f"{table.name}: column {twice[0]!r} appears more than once in the header"
            )
        if required not in self.columns:
            raise BadInput(
                f"{table.name}: has no column {required!r} ({asked_by}); its columns are "
                f"{', '.join(self.columns[:40]) or 'none: the file is empty'}{self._other_form()}"
            )
        self.warnings = self._unusual()

    def rows(self) -> Iterator[list[str | None]]:
        """Yield the rows below the header, with None for blanks; empty rows are left out.

        Raises
        ------
        BadInput
            A row has more cells than the header, or the file cannot be read.
        """
        width = len(self.columns)
        below = (cells for cells in records(self._table, self._form) if any(cells))
        next(below, None)
        for number, cells in enumerate(below, 1):
            surplus = [cell for cell in cells[width:] if cell.strip()]
            if surplus:
                raise BadInput(
                    f"{self._table.name}: row {number} has {len(cells)} cells where the header has "
                    f"{width} columns (surplus: {surplus[0][:60]!r}); a "
                    f"{self._form.delimiter!r} within a cell needs quotes"
                )
            row: list[str | None] = [None if c.strip() in BLANKS else c for c in cells[:width]]
            yield row + [None] * (width - len(row))

    def _unusual(self) -> list[str]:
        usual = "\t" if self._table.suffix.lower() in (".tsv", ".tab") else ","
        told = []
        if not self._form.encoding.startswith("utf-8"):
            told.append(f"as {self._form.encoding} text")
        if self._form.delimiter != usual:
            separated = DELIMITERS.get(self._form.delimiter, repr(self._form.delimiter))
            told.append(f"with {separated} between the cells")
        return [f"{self._table.name}: is read {' and '.join(told)}"] if told else []

    def _other_form(self) -> str:
        """Name a separator that the header seems to have instead."""
        if len(self.columns) > 1:
            return ""
        if self._form.delimiter in "".join(self.columns):
            return (
                f"; each line is in quotes as a whole, so that its {self._form.delimiter!r} "
                "separate nothing: save the table without them"
            )
        held = [what for each, what in DELIMITERS.items() if each in "".join(self.columns)]
        return f"; if it is separated by {' or '.join(held)}, save it with commas" if held else ""


def listing(folder: Path) -> str:
    """Name what a folder holds, for a message."""
    if not folder.is_dir():
        return "no such folder"
    names = sorted(f"{e.name}/" if e.is_dir() else e.name for e in folder.iterdir())
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "") or "nothing"
