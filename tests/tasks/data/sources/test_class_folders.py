"""Folders named after classes become labelled rows."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.contract import BadInput, NoInput
from tasks.data.sources import open_source
from tasks.spec.sources import ClassFolders

TakeIn = Callable[..., Any]
Encode = Callable[..., bytes]


@pytest.fixture
def write(tmp_path: Path, image_bytes: Encode) -> Callable[..., Path]:
    """Return a function that writes a small image under each of the names."""

    def write(*names: str, folder: str = "source") -> Path:
        root = tmp_path / folder
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_bytes(number))
        return root

    return write


def test_the_folder_is_the_label(tmp_path: Path, take_in: TakeIn, write: Any) -> None:
    summary, table = take_in("class_folders", write("dog/b.png", "cat/a.png", "cat/deep/er/c.png"))
    assert table["image_id"].tolist() == ["cat/a.png", "cat/deep/er/c.png", "dog/b.png"]
    assert table["label"].tolist() == ["cat", "cat", "dog"]
    assert (summary.usable, summary.warnings) == (3, [])
    assert (tmp_path / "out/images/cat/deep/er/c.png").is_file()


def test_sides_of_a_split_are_not_taken_for_classes_without_a_word(
    take_in: TakeIn, write: Any
) -> None:
    source = write("train/cat/1.png", "train/dog/1.png", "Val/cat/2.png")
    (warning,) = take_in("class_folders", source)[0].warnings
    assert "'label' is train or val in all rows, and other folders are below" in warning
    assert "source.levels to [split, label]" in warning
    assert take_in("class_folders", source, levels=["split", "label"])[0].warnings == []
    # classes may well be called so
    plain = write("test/1.png", "train/1.png", folder="plain")
    assert take_in("class_folders", plain)[0].warnings == []


def test_levels_are_columns_and_what_lies_above_them_has_a_blank(
    take_in: TakeIn, write: Any
) -> None:
    source = write("train/cat/1.png", "test/cat/1.png", "train/stray.png", "top.png")
    _, table = take_in("class_folders", source, levels=["split", "label"])
    rows = {
        row.image_id: [row.split, row.label]
        for row in table.fillna("").itertuples()  # type: ignore[attr-defined]
    }
    assert rows == {
        "test/cat/1.png": ["test", "cat"],
        "top.png": ["", ""],
        "train/cat/1.png": ["train", "cat"],
        "train/stray.png": ["train", ""],
    }


def test_an_archive_is_read_and_the_folder_that_wraps_it_entered(
    tmp_path: Path, take_in: TakeIn, write: Any, address: str
) -> None:
    source = write("data/cat/1.png", "data/dog/2.png", "notes/cat/3.png", folder="repo-main")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(source, arcname="repo-main")
    for uri in (tmp_path / "a.tar.gz", f"{address}/a.tar.gz"):
        _, table = take_in("class_folders", uri, images="data")
        assert table["label"].tolist() == ["cat", "dog"]


def test_what_is_no_image_is_a_row_with_its_reason(take_in: TakeIn, write: Any) -> None:
    source = write("cat/1.png", "cat/2.png", "dog/3.png")
    (source / "dog/readme.txt").write_text("about dogs")
    summary, table = take_in("class_folders", source, max_quarantined=0.5)
    assert table["image_status"].tolist() == ["ok", "ok", "ok", "not_an_image"]
    assert summary.examples["not_an_image"] == ["row 4 dog/readme.txt: no known image format"]
    with pytest.raises(BadInput, match=r"1 of 4 images cannot be used .*dog/readme.txt"):
        take_in("class_folders", source, max_quarantined=0.2)


def test_what_file_managers_leave_behind_is_named_not_read(take_in: TakeIn, write: Any) -> None:
    source = write("cat/1.png", "cat/.DS_Store", "__MACOSX/cat/._1.png", ".cache/x/1.png")
    summary, table = take_in("class_folders", source)
    assert table["image_id"].tolist() == ["cat/1.png"]
    assert summary.warnings == [
        "3 hidden files and links to folders are left out, such as .cache, __MACOSX, cat/.DS_Store"
    ]


def test_links_never_lead_out(tmp_path: Path, take_in: TakeIn, write: Any) -> None:
    source = write("cat/1.png")
    secret = write("secret/1.png", folder="elsewhere")
    (source / "door").symlink_to(secret)
    (source / "cat/link.png").symlink_to(secret / "secret/1.png")
    (source / "loop").symlink_to(source)
    summary, table = take_in("class_folders", source, max_quarantined=1)
    assert table["image_status"].tolist() == ["ok", "outside"]
    assert "door, loop" in summary.warnings[0]
    assert [path.name for path in (tmp_path / "out/images").rglob("*.png")] == ["1.png"]


def test_a_name_that_is_not_utf8_is_named(take_in: TakeIn, write: Any) -> None:
    source = write("cat/1.png")
    with open(os.fsencode(source) + b"/cat/\xff.png", "wb") as stream:
        stream.write(b"x")
    with pytest.raises(BadInput, match=r"cat/\\xff.png': the name of the file is not UTF-8"):
        take_in("class_folders", source)


def test_folders_without_end_are_refused(take_in: TakeIn, write: Any) -> None:
    with pytest.raises(BadInput, match="lies deeper than 100 folders"):
        take_in("class_folders", write("a/" * 200 + "1.png"))


def test_what_is_not_there_is_told(tmp_path: Path, take_in: TakeIn, write: Any) -> None:
    with pytest.raises(BadInput, match=r"holds no folder 'train' \(source.images\)"):
        take_in("class_folders", write("cat/1.png"), images="train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="has no rows"):
        take_in("class_folders", tmp_path / "empty")
    with pytest.raises(NoInput, match="does not exist"):
        take_in("class_folders", tmp_path / "absent")


@pytest.mark.parametrize("levels", [[], ["label", "label"], ["filename"], ["label", ""]])
def test_levels_that_name_no_columns_are_refused(levels: list[str]) -> None:
    with pytest.raises(ValidationError, match="levels"):
        ClassFolders(uri="x", levels=levels)


def test_the_state_changes_with_the_files(write: Any) -> None:
    source = write("train/cat/1.png")
    reader = open_source(ClassFolders(uri=str(source), images="train"))
    first = reader.state()
    write("notes/1.png")
    assert reader.state() == first
    write("x", "train/dog/2.png")
    assert reader.state() != first
