"""Finds out how the text of a table is encoded and separated; refuses what is no table at all."""

import codecs
import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tasks.contract import BadInput
from tasks.data.file_kinds import kind_of_start
from tasks.data.sources.western_text import is_western

LONGEST_CELL = 16 * 1024 * 1024
SAMPLE_ROWS = 50
"""Rows that must have as many cells as the header before another separator is believed."""
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ADVICE = {
    "a zip archive or an Excel workbook": "save the sheet as CSV (UTF-8)",
    "an old Excel workbook": "save the sheet as CSV (UTF-8)",
    "gzip data": "unpack it",
    "a Parquet file": "source.kind parquet reads it",
}
_EXCEL = re.compile(r"(?i)\ufeff*\"?sep=(.)\"?[,;|\t]*\r?\n?")
"""Excel's first line; saved anew, it has the separators of the other lines behind it."""
_ISO_2022 = b"\x1b$"
"""Begins Japanese, Korean and Chinese mail's texts of ASCII bytes."""
_END_OF_FILE = "\x1a"
"""What CP/M and DOS put at the end of texts."""


@dataclass(frozen=True)
class TextForm:
    """How a table is written.

    Attributes
    ----------
    encoding : str
        As Python names it.
    delimiter : str
        One character between cells.
    skipped : int
        Lines before the header.
    """

    encoding: str
    delimiter: str
    skipped: int = 0


def text_form(table: Path, *, required: str, encoding: str | None = None) -> TextForm:
    """Return how a table is written.

    Parameters
    ----------
    table : Path
        The file.
    required : str
        Column that the header must have. A separator other than the usual one is believed when it
        brings this column to light, and as many cells in each of the first rows as in the header.
    encoding : str, optional
        What the pipeline file says that it is, as Python names it; else it is found out.

    Raises
    ------
    BadInput
        It is no text table, or its encoding cannot be told.
    """
    with table.open("rb") as stream:
        start = stream.read(4096)
    _refuse_what_is_no_table(table, start)
    encoding = _declared(encoding) if encoding else _encoding(table, start)
    _refuse_what_is_no_table(table, start.decode(encoding, "ignore").encode())
    usual = TextForm(encoding, "\t" if table.suffix.lower() in (".tsv", ".tab") else ",")
    with table.open(encoding=encoding, errors="replace", newline="") as stream:
        excel = _EXCEL.fullmatch(stream.readline(100))
    if excel:
        return TextForm(encoding, excel[1], skipped=1)
    if required in _header(table, usual):
        return usual
    others = [TextForm(encoding, each) for each in DELIMITERS if each != usual.delimiter]
    fitting = [form for form in others if _fits(table, form, required)]
    return fitting[0] if len(fitting) == 1 else usual


def records(table: Path, form: TextForm) -> Iterator[list[str]]:
    """Yield the rows of a table, the header first.

    Raises
    ------
    BadInput
        The file breaks off within quotes, or is otherwise no such table.
    """
    csv.field_size_limit(LONGEST_CELL)
    try:
        with table.open(encoding=form.encoding, newline="") as stream:
            for _ in range(form.skipped):
                stream.readline()
            yield from csv.reader(_lines(stream), delimiter=form.delimiter, strict=True)
    except UnicodeError as error:
        raise BadInput(f"{table.name}: cannot be read as {form.encoding}: {error}") from None
    except csv.Error as error:
        raise BadInput(f"{table.name}: cannot be read as a table: {error}") from None


def _refuse_what_is_no_table(table: Path, start: bytes) -> None:
    what = kind_of_start(start)
    if what is not None:
        advice = f"; {_ADVICE[what]}" if what in _ADVICE else ""
        raise BadInput(f"{table.name}: is no table but {what}{advice}")


def _lines(stream: Iterable[str]) -> Iterator[str]:
    """Yield lines without byte order marks at the beginning and DOS's mark at the end."""
    for number, line in enumerate(stream):
        line = line.removesuffix(_END_OF_FILE)
        yield line if number else line.lstrip("\ufeff")


def _declared(encoding: str) -> str:
    """Return an encoding that skips the byte order mark, where there is one."""
    name = codecs.lookup(encoding).name
    return {"utf-8": "utf-8-sig"}.get(name, name)


def _header(table: Path, form: TextForm) -> list[str]:
    try:
        return [name.strip() for name in next((r for r in records(table, form) if any(r)), [])]
    except BadInput:
        return []


def _fits(table: Path, form: TextForm, required: str) -> bool:
    header = _header(table, form)
    if required not in header or len(header) < 2:
        return False
    try:
        rows = [row for row in islice(records(table, form), SAMPLE_ROWS) if any(row)]
    except BadInput:
        return False
    # a separator at the line's end makes a cell, too
    return all(len(row) >= len(header) and not any(row[len(header) :]) for row in rows)


def _encoding(table: Path, start: bytes) -> str:
    for mark, name in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return name
    zeros = start[: len(start) // 2 * 2]
    even, odd = zeros[::2].count(0), zeros[1::2].count(0)
    # every second byte of Latin text in UTF-16 is zero; a stray NUL in a cell is not that
    if odd > len(zeros) // 4 and not even:
        return "utf-16-le"
    if even > len(zeros) // 4 and not odd:
        return "utf-16-be"
    problem = _not_utf8(table)
    if problem is None:
        return "utf-8"
    with table.open("rb") as stream:
        if is_western(stream):
            return "cp1252"
    raise BadInput(
        f"{table.name}: is not UTF-8 ({problem}), and what it is cannot be told{_guess(table)}; "
        "save it as UTF-8, or name its encoding in source.encoding"
    )


def _not_utf8(table: Path) -> str | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    try:
        with table.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                if _ISO_2022 in chunk:
                    return "it has the escape sequences of ISO-2022"
                decoder.decode(chunk)
                read += len(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return f"{error.reason} at about byte {read + error.start}"
    return None


def _guess(table: Path) -> str:
    """Name an encoding with what the table says in it, for a person to judge."""
    from charset_normalizer import from_bytes

    with table.open("rb") as stream:
        start = stream.read(1 << 16)
    best = from_bytes(start).best()
    line = next((each for each in start.splitlines() if not each.isascii()), b"")
    if best is None or not line:
        return ""
    text = line.decode(best.encoding, "replace")[:60]
    return f" (perhaps {best.encoding}, as which it holds {text!r})"
