"""Tables name files as another machine, another tool or another folder spelled them."""

import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tasks.contract import BadInput
from tasks.data.ingest import Summary, ingest
from tasks.data.sources import open_source
from tasks.data.spelled_names import SpelledNames
from tasks.spec import CsvImages

Encode = Callable[..., bytes]
Make = Callable[..., Path]


def _folder(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


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
    assert names.find(name).name == file
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
    match = SpelledNames(_folder(tmp_path / "films", *files)).find(name)
    assert match.name is None
    assert match.hint == hint


def test_a_note_beside_an_image_is_not_taken_for_it(tmp_path: Path) -> None:
    names = SpelledNames(_folder(tmp_path, "film.json", "film.png", "__MACOSX/film.png", ".film"))
    assert names.find("film").name == "film.png"


def test_a_mask_is_not_taken_for_an_image_that_is_missing(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "images/1.png", "images/2.png", *(f"masks/{n}.png" for n in "123"))
    match = SpelledNames(folder).find("3.png")
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
    if file is None:
        names.exact += 1
    match = names.find(name)
    assert match.name == file
    assert file is not None or "front.jpg" in match.hint


def test_many_files_of_one_name_are_found_as_fast_as_others(tmp_path: Path) -> None:
    names = SpelledNames(_folder(tmp_path, *(f"p{n}/front.jpg" for n in range(5000))))
    started = time.perf_counter()
    for n in range(5000):
        assert names.find(f"P{n}\\front.jpg").name == f"p{n}/front.jpg"
    assert time.perf_counter() - started < 5


def test_folders_of_another_place_are_the_same_for_the_whole_table(tmp_path: Path) -> None:
    names = SpelledNames(_folder(tmp_path, "a.png", "b.png", "c.png"))
    assert names.find("/data/old/a.png").name == "a.png"
    assert names.find("/data/old/b.png").name == "b.png"
    assert names.find("/data/new/c.png").name is None


def test_one_stray_row_among_plain_names_is_not_led_back_into_the_folder(tmp_path: Path) -> None:
    names = SpelledNames(_folder(tmp_path, "a.png"))
    names.exact += 1
    assert names.find("../a.png").name is None


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
    for name in ("A.png", "b.png", "c.png", "d.png"):
        names.find(name)
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
