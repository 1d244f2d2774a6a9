"""Tables are read as spreadsheets, databases and scripts write them, or named for what they are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.contract import BadInput
from tasks.data.sources.csv_table import CsvTable

ROWS = [["filename", "finding", "age"], ["a.png", "gesund, früh", "4,5"], ["b.png", "Ödem", "50+"]]

Write = Callable[..., CsvTable]


def _text(delimiter: str, end: str = "\r\n") -> str:
    quoted = [[f'"{c}"' if delimiter in c else c for c in row] for row in ROWS]
    return "".join(delimiter.join(row) + end for row in quoted)


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Return a function that writes a table and opens it."""

    def write(content: bytes, name: str = "metadata.csv") -> CsvTable:
        path = tmp_path / name
        path.write_bytes(content)
        return CsvTable(path, required="filename", asked_by="source.filename_column")

    return write


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.tsv", "metadata.txt"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_what_a_table_holds_does_not_depend_on_how_it_is_written(
    written: Write, name: str, delimiter: str, encoding: str
) -> None:
    table = written(_text(delimiter).encode(encoding), name)
    assert [table.columns, *table.rows()] == ROWS
    usual = delimiter == ("\t" if name.endswith(".tsv") else ",") and encoding.startswith("utf-8")
    assert bool(table.warnings) != usual


def test_what_is_unusual_is_told(written: Write) -> None:
    (told,) = written(_text(";").encode("cp1252")).warnings
    assert told == "metadata.csv: is read as cp1252 text and with semicolons between the cells"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_every_end_of_a_line_is_understood(written: Write, end: str) -> None:
    table = written(_text(",", end).encode())
    assert [table.columns, *table.rows()] == ROWS


@pytest.mark.parametrize("line", ["sep=;\r\n", '"sep=;"\r\n', "sep=;\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_line_that_excel_writes_first_is_obeyed(
    written: Write, line: str, encoding: str
) -> None:
    table = written((line + _text(";")).encode(encoding))
    assert [table.columns, *table.rows()] == ROWS


def test_commas_in_cells_do_not_make_a_table_of_semicolons_one_of_commas(written: Write) -> None:
    table = written(b"filename;note\na.png;one, two\nb.png;three, four\n")
    assert list(table.rows()) == [["a.png", "one, two"], ["b.png", "three, four"]]


def test_a_semicolon_in_a_table_of_commas_stays_in_its_cell(written: Write) -> None:
    table = written(b"filename,note\na.png,one; two\nb.png,\n")
    assert list(table.rows()) == [["a.png", "one; two"], ["b.png", None]]


def test_a_separator_at_the_end_of_the_lines_is_no_column(written: Write) -> None:
    table = written(b"filename;age\na.png;7;\nb.png;8;\n")
    assert (table.columns, list(table.rows())) == (
        ["filename", "age"],
        [["a.png", "7"], ["b.png", "8"]],
    )


def test_a_table_of_one_column_is_a_table(written: Write) -> None:
    table = written(b"filename\na.png\n")
    assert (list(table.rows()), table.warnings) == ([["a.png"]], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page, perhaps of a failed"),
        (b"\n  <html lang='en'>", "a web page"),
        (b"\xef\xbb\xbf<!doctype HTML>", "a web page"),
        ("<html>".encode("utf-16"), "a web page"),
        (b"<!-- saved from url --><html>", "a web page"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "XML"),
        (b"PK\x03\x04" + bytes(200), "an Excel workbook; save the sheet as CSV"),
        (b"\x1f\x8b\x08" + bytes(200), "gzip data"),
        (b"PAR1" + bytes(200), "source.kind parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run git lfs pull"),
        (b'[{"filename": "a.png"}]', "is no table but JSON"),
        (b"filename;a\na.png;1;2\nb.png;1\n", "separated by semicolons, save it with commas"),
        (b"file;a\na.png;1\n", "separated by semicolons, save it with commas"),
        ("filename,名\na.png,健康肺炎骨折\n".encode("gb18030"), "is not UTF-8 .*cannot be told"),
        ("filename,диагноз\na.png,здоров\n".encode("cp1251"), "is not UTF-8 .*cannot be told"),
        ("filename,診断\na.png,肺炎です\n".encode("shift_jis"), "is not UTF-8 .*cannot be told"),
        ("filename,note\na.png,né à l'hôpital été\n".encode("mac_roman"), "is not UTF-8"),
        ("filename,note\na.png,mały włos\n".encode("cp1250"), "is not UTF-8"),
        (b"\x00\x01\x02\xff\xfe\x81", "is not UTF-8"),
        (b"filename,filename\n", "appears more than once"),
        (b"filename,a\na.png,1,2\n", "row 1 has 3 cells where the header has 2"),
    ],
)
def test_what_is_no_such_table_is_named_for_what_it_is(
    written: Write, content: bytes, message: str
) -> None:
    with pytest.raises(BadInput, match=message) as error:
        list(written(content).rows())
    assert str(error.value).startswith("metadata.csv: ")
    assert "\n" not in str(error.value)
