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

    def write(content: bytes, name: str = "metadata.csv", encoding: str | None = None) -> CsvTable:
        path = tmp_path / name
        path.write_bytes(content)
        return CsvTable(
            path, required="filename", asked_by="source.filename_column", encoding=encoding
        )

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


@pytest.mark.parametrize("line", ["sep=;\r\n", '"sep=;"\r\n', "sep=;\n", "SEP=;\n", "sep=;;;\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_line_that_excel_writes_first_is_obeyed(
    written: Write, line: str, encoding: str
) -> None:
    table = written((line + _text(";")).encode(encoding))
    assert [table.columns, *table.rows()] == ROWS


def test_marks_before_and_behind_a_table_are_no_part_of_it(written: Write) -> None:
    table = written(b"\xef\xbb\xbf\xef\xbb\xbffilename,age\r\na.png,7\r\n\x1a")
    assert (table.columns, list(table.rows())) == (["filename", "age"], [["a.png", "7"]])


OTHER_SCRIPTS = [
    ("gb18030", "男 女"),
    ("gb18030", "健康 肺炎"),
    ("big5", "男 女"),
    ("big5", "正常 異常 骨折"),
    ("shift_jis", "男 女"),
    ("shift_jis", "ネコ イヌ"),
    ("iso2022_jp", "男 女"),
    ("euc-jp", "健康 肺炎"),
    ("euc-kr", "남 여"),
    ("cp949", "정상 폐렴"),
    ("cp1251", "м ж"),
    ("cp1251", "да нет"),
    ("cp1251", "Covid-да x-нет"),
    ("koi8-r", "м ж"),
    ("cp866", "да нет"),
    ("cp1253", "α β"),
    ("cp1255", "ז נ"),
    ("cp1256", "ذ أ"),
    ("cp874", "ช ญ"),
    ("cp1250", "Jiří Dvořák"),
    ("cp1250", "zdravý nemocný příliš žluťoučký Černý"),
    ("cp1250", "zdrowy chory żółty łóżko"),
    ("cp1250", "egészséges tüdőgyulladás"),
    ("cp1254", "sağlıklı hasta Yıldız"),
    ("cp1257", "sveikas ligonis plaučių"),
    ("mac_roman", "é ü"),
    ("cp437", "é ü"),
    ("cp850", "männlich weiblich"),
    ("iso8859-15", "š ž"),
]


@pytest.mark.parametrize(("encoding", "words"), OTHER_SCRIPTS)
def test_a_table_in_another_encoding_is_not_misread_and_is_read_when_it_is_named(
    written: Write, encoding: str, words: str
) -> None:
    """Sex, findings and names of patients, once each and many times."""
    rows = [[f"{n}.png", word] for n, word in enumerate(words.split() * 20)]
    content = "".join(f"{a},{b}\n" for a, b in [["filename", "sex"], *rows]).encode(encoding)
    with pytest.raises(BadInput, match=r"is not UTF-8 .* name its encoding in source.encoding"):
        written(content)
    assert list(written(content, encoding=encoding).rows()) == rows


@pytest.mark.parametrize(
    "words",
    [
        "männlich weiblich Größe Füße süß Ödem",
        "né à_l'hôpital été œdème cœur L’été où",
        "niño pulmón riñón ¿Qué?",
        "não são irmãs pulmões coração",
        "perché è_già_così città",
        "Zoë Müller José Øyvind Åsa",
        "pää yö blåbær rød",
        "50_€ 37_°C µm m² “x” — 3_×_4 1º ½_l",
    ],
)
def test_western_words_are_read_without_being_asked(written: Write, words: str) -> None:
    rows = [[f"{n}.png", word.replace("_", " ")] for n, word in enumerate(words.split())]
    content = "".join(f"{a},{b}\n" for a, b in [["filename", "note"], *rows]).encode("cp1252")
    table = written(content)
    assert list(table.rows()) == rows
    assert table.warnings == ["metadata.csv: is read as cp1252 text"]


def test_a_named_encoding_is_not_guessed_and_fails_where_it_is_wrong(written: Write) -> None:
    assert list(written("filename,a\nx,ø\n".encode(), encoding="utf8").rows()) == [["x", "ø"]]
    with pytest.raises(BadInput, match="cannot be read as utf-8"):
        list(written(b"filename,a\nx,\xf8\n", encoding="utf-8").rows())


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
        (b'"filename,a"\n"a.png,1"\n', "each line is in quotes as a whole"),
        (b"%PDF-1.4", "is no table but a PDF"),
        (b"SQLite format 3\0", "an SQLite database"),
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
