"""Tables name files as another machine, another tool or another folder spelled them."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest

from tasks.contract import BadInput
from tasks.data import file_index
from tasks.data.boxes import Box, PixelBox
from tasks.data.image_finder import ImageFinder
from tasks.data.ingest import Summary, ingest
from tasks.data.sources import Contents, SourceRow, open_source
from tasks.data.spelled_names import Match, SpelledNames
from tasks.spec import CsvImages

Encode = Callable[..., bytes]
Make = Callable[..., Path]


def _folder(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def _find(names: SpelledNames, name: str) -> Match:
    return names.resolve([name])[name]


def _ingest(tmp_path: Path, source: Path, **fields: object) -> tuple[Summary, pd.DataFrame]:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    spec = CsvImages.model_validate({"uri": str(source), **fields})
    summary = ingest(open_source(spec), out, scratch=tmp_path / "scratch")
    return summary, pd.read_parquet(out / "metadata.parquet")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("COVID-00000a", "COVID-00000a.png"),
        ("1.2.840.113", "1.2.840.113.jpg"),
        ("sub\\film.png", "sub/film.png"),
        ("./film.png", "film.png"),
        (".\\film.png", "film.png"),
        ("sub//film.png", "sub/film.png"),
        ("film.JPG", "film.jpg"),
        ("Film.jpg", "fILM.JPG"),
        (" film.png ", "film.png"),
        ("film.png", "film.png "),
        ("film%20one.png", "film one.png"),
        ("h%C3%BCfte.png", "hüfte.png"),
        (unicodedata.normalize("NFC", "hüfte.png"), unicodedata.normalize("NFD", "hüfte.png")),
        (unicodedata.normalize("NFD", "hüfte.png"), unicodedata.normalize("NFC", "hüfte.png")),
        ("\u200bfilm.png", "film.png"),
        ("film.png", "film\u00ad.png"),
        ("\uff46\uff49\uff4c\uff4d\uff11.png", "film1.png"),
        ("film 3.04 PM.png", "film 3.04\u202fPM.png"),
        ("film\u00a0one.png", "film one.png"),
        ("images/film.png", "film.png"),
        ("images\\film.png", "film.png"),
        ("Images/film.PNG", "film.png"),
        ("source/images/film.png", "film.png"),
        ("images/sub/film", "sub/film.png"),
        ("00000001_000.png", "images_001/images/00000001_000.png"),
        ("train/film.png", "part1/train/film.png"),
        ("C:\\Users\\me\\films\\film.png", "film.png"),
        ("s3://bucket/films/film.png", "film.png"),
        ("/home/me/sub/film.png", "sub/film.png"),
        ("..\\..\\label-studio\\media\\upload\\4\\film.png", "film.png"),
        ("../upload/film.png", "film.png"),
        ("/data/local-files/?d=films%2Ffilm.png", "film.png"),
        ("https://host/films/film.png?X-Date=1", "film.png"),
    ],
)
def test_a_name_finds_the_one_file_that_it_can_mean(tmp_path: Path, name: str, file: str) -> None:
    names = SpelledNames(_folder(tmp_path / "source/images", file, "other.png"))
    assert _find(names, name).name == file
    (told,) = names.told()
    assert "1 names were found under another spelling" in told
    assert repr(file) in told


@pytest.mark.parametrize(
    ("name", "files", "hint"),
    [
        ("film", ["film.png", "film.jpg"], "it may be 'film.jpg' or 'film.png'"),
        ("FILM.png", ["film.png", "Film.png"], "it may be 'Film.png' or 'film.png'"),
        ("film.png", ["a/film.png", "b/film.png"], "there are 'a/film.png' or 'b/film.png'"),
        ("film.jpg", ["film.png"], "there is 'film.png'"),
        ("one/front.png", ["two/front.png"], "there is 'two/front.png'"),
        ("gone.png", ["film.png"], ""),
        ("", ["film.png"], ""),
        ("..", ["film.png"], ""),
        ("a\0b", ["a.png"], ""),
    ],
)
def test_a_name_that_may_mean_several_files_or_another_is_not_guessed(
    tmp_path: Path, name: str, files: list[str], hint: str
) -> None:
    match = _find(SpelledNames(_folder(tmp_path / "films", *files)), name)
    assert match.name is None
    assert match.hint == hint


def test_a_note_beside_an_image_is_not_taken_for_it(tmp_path: Path) -> None:
    names = SpelledNames(_folder(tmp_path, "film.json", "film.png", "__MACOSX/film.png", ".film"))
    assert _find(names, "film").name == "film.png"


def test_a_mask_is_not_taken_for_an_image_that_is_missing(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "images/1.png", "images/2.png", *(f"masks/{n}.png" for n in "123"))
    match = _find(SpelledNames(folder), "3.png")
    assert match.name is None
    assert match.hint == "there is 'masks/3.png'"


@pytest.mark.parametrize("patients", [3, 200])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("p2\\Front.JPG", "train/p2/front.jpg"),
        ("train/p2/front", "train/p2/front.jpg"),
        ("films/train/P2/front.jpg", "train/p2/front.jpg"),
        ("/data/old/train/p2/front.jpg", "train/p2/front.jpg"),
        ("p1/front.jpg", None),
        ("p9999/front.jpg", None),
        ("front.jpg", None),
        ("other/p2/front.jpg", None),
    ],
)
def test_files_of_one_name_are_told_apart_by_their_folders(
    tmp_path: Path, patients: int, name: str, file: str | None
) -> None:
    files = [f"train/p{n}/front.jpg" for n in range(patients)]
    names = SpelledNames(_folder(tmp_path / "films", *files, "test/p1/front.jpg"))
    match = names.resolve([name], taken=[] if file else ["train/p0/front.jpg"])[name]
    assert match.name == file
    assert file is not None or "front.jpg" in match.hint


def test_many_files_of_one_name_are_found_as_fast_as_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = SpelledNames(_folder(tmp_path, *(f"p{n}/front.jpg" for n in range(5000))))
    compared = Mock(wraps=file_index.spelling)
    monkeypatch.setattr(file_index, "spelling", compared)
    found = names.resolve(f"P{n}\\front.jpg" for n in range(5000))
    assert [match.name for match in found.values()] == [f"p{n}/front.jpg" for n in range(5000)]
    # a few for each name, not all files of the name for each
    assert compared.call_count < 50_000


def test_folders_of_another_place_are_the_same_for_the_whole_table(tmp_path: Path) -> None:
    names = SpelledNames(_folder(tmp_path, "a.png", "b.png", "c.png"))
    found = names.resolve(["/data/new/c.png", "/data/old/a.png", "/data/old/b.png"])
    assert [match.name for match in found.values()] == [None, "a.png", "b.png"]


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["../a.png"], ["b.png"]),
        (["/old/a.png", "/new/b.png"], []),
        (["/old/a.png", "gone.png"], []),
        (["/old/a.png", "/old/b.png", "B.PNG"], []),
    ],
)
def test_folders_of_another_place_are_not_taken_off_a_few_rows(
    tmp_path: Path, names: list[str], taken: list[str]
) -> None:
    held = SpelledNames(_folder(tmp_path, "a.png", "b.png"))
    assert held.resolve(names, taken=taken)[names[0]].name is None


@pytest.mark.parametrize("first", [True, False])
def test_a_file_that_a_row_names_exactly_is_never_guessed_for_another(
    tmp_path: Path, make_source: Make, image_bytes: Encode, first: bool
) -> None:
    """The other row's own file is lost: its label and patient must not reach this image."""
    rows = [{"filename": f"scan_{n}.png", "patient": f"A{n}"} for n in range(20)]
    rows.insert(0 if first else 20, {"filename": "SCAN_7.PNG", "patient": "B"})
    source = make_source(rows, {f"scan_{n}.png": image_bytes(n) for n in range(20)})
    summary, table = _ingest(tmp_path, source)
    usable = table[table["image_status"] == "ok"].set_index("image_id")
    assert usable.loc["scan_7.png", "patient"] == "A7"
    assert (summary.usable, summary.missing) == (20, 1)
    assert "'scan_7.png' is meant by another row, too" in summary.examples["missing"][0]


@pytest.mark.parametrize("first", [True, False])
def test_a_folder_that_was_not_delivered_does_not_lead_to_other_images(
    tmp_path: Path, make_source: Make, image_bytes: Encode, first: bool
) -> None:
    own = [{"filename": f"{n}.png", "patient": f"A{n}"} for n in range(9)]
    lost = [{"filename": f"hospital_b/{n}.png", "patient": f"B{n}"} for n in range(5)]
    files = {f"{n}.png": image_bytes(n) for n in range(9)}
    source = make_source([*lost, *own] if first else [*own, *lost], files)
    summary, table = _ingest(tmp_path, source, max_missing=0.5)
    assert (summary.usable, summary.missing) == (9, 5)
    usable = table[table["image_status"] == "ok"]
    assert set(usable["patient"]) == {row["patient"] for row in own}


def test_a_file_that_two_rows_may_mean_is_neithers(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    rows = [{"filename": name} for name in ("a", "A.PNG", "b", "b", "c.png", ".\\c.png")]
    source = make_source(rows, {f"{n}.png": image_bytes(ord(n)) for n in "abc"})
    _, table = _ingest(tmp_path, source, max_missing=0.5)
    assert list(table["image_status"]) == ["missing", "missing", "ok", "repeated", "ok", "repeated"]


def test_rows_that_wait_for_a_guess_keep_their_boxes(tmp_path: Path) -> None:
    images = _folder(tmp_path / "images", "a.png", "b.png")
    rows = [
        SourceRow(["1", None], "A", "mask.png", (Box(0.1, 0, 1, 0.5), PixelBox(1, 2, 3, 4))),
        SourceRow(["\ud800", "2"], "b.png"),
    ]
    contents = Contents(columns=["x", "y"], rows=iter(rows), images=images)
    located = ImageFinder(contents, images, scratch=tmp_path).located(contents.rows)
    assert list(located) == [(replace(rows[0], image="a.png"), None), (rows[1], None)]


def test_the_folder_is_listed_once_and_only_when_a_name_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    listed: list[str] = []
    scandir = os.scandir

    def counted(path: Path) -> object:
        listed.append(str(path))
        return scandir(path)

    monkeypatch.setattr("tasks.data.spelled_names.os.scandir", counted)
    names = SpelledNames(_folder(tmp_path, "a.png", "sub/b.png"))
    assert not listed
    names.resolve([])
    assert not listed
    for _ in range(2):
        names.resolve(["A.png", "b.png", "c.png", "d.png"])
    assert len(listed) == 2


def test_a_table_of_another_machine_is_taken_in_and_told(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    names = ["a", ".\\b.JPG", "images/c.png ", "d.png"]
    files = ["a.png", "b.jpg", "c.png", "d.png"]
    source = make_source(
        [{"filename": name, "row": str(n)} for n, name in enumerate(names)],
        {
            file: image_bytes(n, kind="JPEG" if "jpg" in file else "PNG")
            for n, file in enumerate(files)
        },
    )
    (source / "masks").mkdir()
    for file in files:
        (source / "masks" / f"{Path(file).stem}.png").write_bytes(image_bytes(9))
    summary, table = _ingest(tmp_path, source, regions="masks/{stem}.png")
    assert list(table["image_id"]) == files
    assert list(table["filename"]) == names
    assert summary.regions == 4
    assert "3 names were found under another spelling" in " ".join(summary.warnings)


def test_two_spellings_of_one_file_are_the_same_file(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    rows = [{"filename": "a.png"}, {"filename": "./a.png"}]
    _, table = _ingest(tmp_path, make_source(rows, {"a.png": image_bytes()}))
    assert list(table["image_status"]) == ["ok", "repeated"]
    assert table.loc[1, "duplicate_of"] == "a.png"


def test_the_message_names_the_setting_with_which_the_files_would_be_found(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    source = make_source([{"filename": "films/a.png"}], {"b.png": image_bytes()})
    (source / "films").mkdir()
    (source / "films/a.png").write_bytes(image_bytes())
    with pytest.raises(BadInput, match=r"films/a.png: no such file; it lies .* to '\.'"):
        _ingest(tmp_path, source)
    summary, _ = _ingest(tmp_path, source, images=".")
    assert summary.usable == 1


def test_images_spread_over_folders_are_found_by_their_names(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    names = [f"0000000{n}_000.png" for n in range(6)]
    source = make_source([{"filename": name} for name in names], {})
    for n, name in enumerate(names):
        path = source / f"images_00{n % 3}" / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(n))
    summary, table = _ingest(tmp_path, source, images=".")
    assert summary.usable == 6
    assert table.loc[4, "image_id"] == "images_001/images/00000004_000.png"
