"""Finds out how the text of a table is encoded and separated; refuses what is no table at all."""

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tasks.contract import BadInput

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
_NO_TABLES = (
    (
        rb"(?i)\s*<(!doctype\s+html|html|head|body)",
        "a web page, perhaps of a failed download",
    ),
    (rb"\s*<(\?xml|!--|[a-zA-Z])", "markup (XML or a web page)"),
    (rb"PK\x03\x04", "a zip archive or an Excel workbook; save the sheet as CSV (UTF-8)"),
    (rb"\xd0\xcf\x11\xe0", "an old Excel workbook; save the sheet as CSV (UTF-8)"),
    (rb"\x1f\x8b", "gzip data; unpack it"),
    (rb"PAR1", "a Parquet file; source.kind parquet reads it"),
    (rb"version https://git-lfs", "a pointer of Git LFS; run git lfs pull"),
    (rb"\s*[\[{]\s*[\"{\[]", "JSON"),
)
_EXCEL = re.compile(r"\"?sep=(.)\"?\r?\n?")
_TYPOGRAPHY = frozenset(b"\x80\x85\x91\x92\x93\x94\x95\x96\x97\x99")
"""Bytes of Windows-1252 that are no letters: quotes, dashes, the euro."""
_SIGN_IN_A_WORD = re.compile(rb"[A-Za-z][\xa1-\xa9\xab-\xb1\xb3\xb4\xb6\xb8\xb9\xbb-\xbf][A-Za-z]")
"""What a letter of Central Europe's Windows-1250 would be in Windows-1252."""
_HIGH = re.compile(rb"[\x80-\xff]+")


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


def text_form(table: Path, *, required: str) -> TextForm:
    """Return how a table is written.

    Parameters
    ----------
    table : Path
        The file.
    required : str
        Column that the header must have. A separator other than the usual one is believed when it
        brings this column to light, and as many cells in each of the first rows as in the header.

    Raises
    ------
    BadInput
        It is no text table, or its encoding cannot be told.
    """
    with table.open("rb") as stream:
        start = stream.read(4096)
    _refuse_what_is_no_table(table, start.removeprefix(codecs.BOM_UTF8))
    encoding = _encoding(table, start)
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
            yield from csv.reader(stream, delimiter=form.delimiter, strict=True)
    except UnicodeError as error:
        raise BadInput(f"{table.name}: cannot be read as {form.encoding}: {error}") from None
    except csv.Error as error:
        raise BadInput(f"{table.name}: cannot be read as a table: {error}") from None


def _refuse_what_is_no_table(table: Path, start: bytes) -> None:
    for pattern, what in _NO_TABLES:
        if re.match(pattern, start):
            raise BadInput(f"{table.name}: is no table but {what}")


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
    if _is_western(table):
        return "cp1252"
    raise BadInput(
        f"{table.name}: is not UTF-8 ({problem}), and what it is cannot be told{_guess(table)}; "
        "save it as UTF-8"
    )


def _not_utf8(table: Path) -> str | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    try:
        with table.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                decoder.decode(chunk)
                read += len(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return f"{error.reason} at about byte {read + error.start}"
    return None


def _is_western(table: Path) -> bool:
    """Return whether a text can be nothing but Windows-1252, of which Latin-1 is a part.

    Its accents stand alone among plain letters; Cyrillic, Greek, Chinese and Japanese come in runs,
    and the letters of Mac OS Roman where Windows-1252 has few.
    """
    runs = long = letters = low = signs = 0
    with table.open("rb") as stream:
        for line in stream:
            try:
                line.decode("cp1252")
            except UnicodeDecodeError:
                return False
            signs += len(_SIGN_IN_A_WORD.findall(line))
            for found in _HIGH.findall(line):
                runs += 1
                long += len(found) > 2
                letters += sum(byte >= 0xC0 for byte in found)
                low += sum(byte < 0xA0 and byte not in _TYPOGRAPHY for byte in found)
    return long * 20 <= runs and signs * 20 <= runs and low <= letters


def _guess(table: Path) -> str:
    from charset_normalizer import from_bytes

    with table.open("rb") as stream:
        best = from_bytes(stream.read(1 << 16)).best()
    return f" (perhaps {best.encoding})" if best is not None else ""
