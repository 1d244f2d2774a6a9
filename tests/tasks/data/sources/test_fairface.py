"""FairFace's tables and images become labelled rows."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.contract import BadInput

TakeIn = Callable[..., Any]
HEADER = "file,age,gender,race,service_test"


@pytest.fixture
def source(tmp_path: Path, image_bytes: Callable[..., bytes]) -> Path:
    root = tmp_path / "fairface"
    for number, (side, rows) in enumerate({"train": 3, "val": 2}.items()):
        (root / side).mkdir(parents=True)
        lines = [HEADER]
        for row in range(1, rows + 1):
            (root / side / f"{row}.jpg").write_bytes(image_bytes(10 * number + row, kind="JPEG"))
            lines.append(f"{side}/{row}.jpg,20-29,Female,Middle Eastern,{row == 1}")
        (root / f"fairface_label_{side}.csv").write_text("\n".join(lines))
    return root


def test_both_tables_are_read_with_the_published_split(take_in: TakeIn, source: Path) -> None:
    summary, table = take_in("fairface", source)
    assert table["image_id"].tolist() == [
        *("train/1.jpg", "train/2.jpg", "train/3.jpg"),
        *("val/1.jpg", "val/2.jpg"),
    ]
    assert table["split"].tolist() == ["train"] * 3 + ["test"] * 2
    assert table.loc[0, ["age", "gender", "race"]].tolist() == ["20-29", "Female", "Middle Eastern"]
    assert (summary.usable, summary.warnings) == (5, [])


@pytest.mark.parametrize("absent", ["train", "val"])
def test_one_table_will_do_and_is_told(
    tmp_path: Path, take_in: TakeIn, source: Path, absent: str
) -> None:
    shutil.rmtree(source / absent)
    (source / f"fairface_label_{absent}.csv").unlink()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in source.rglob("*.*"):
            archive.write(path, Path("wrapped") / path.relative_to(source))
    for uri in (source, tmp_path / "a.zip"):
        summary, table = take_in("fairface", uri)
        assert summary.usable == len(table) == {"train": 2, "val": 3}[absent]
        assert summary.warnings == [
            f"the source holds no fairface_label_{absent}.csv; the other table is read"
        ]


def test_a_file_outside_is_never_followed(tmp_path: Path, take_in: TakeIn, source: Path) -> None:
    secret = tmp_path / "secret.jpg"
    shutil.copy(source / "val/1.jpg", secret)
    with (source / "fairface_label_val.csv").open("a") as stream:
        for name in ("../secret.jpg", str(secret), "file:///etc/passwd", "http://host/x.jpg"):
            stream.write(f"\n{name},3-9,Male,Black,False")
    _, table = take_in("fairface", source, max_missing=1, max_quarantined=1)
    assert table["image_status"].tolist()[5:] == ["outside", "outside", "outside", "outside"]


def test_tables_that_do_not_fit_are_named(take_in: TakeIn, source: Path) -> None:
    table = source / "fairface_label_train.csv"
    whole = table.read_text()
    table.write_text(whole.replace("race", "origin", 1))
    with pytest.raises(BadInput, match=r"different columns: fairface_label_train.csv: file, age"):
        take_in("fairface", source)
    table.write_text(whole.replace("file", "path", 1))
    with pytest.raises(BadInput, match="has no column 'file'"):
        take_in("fairface", source)
    with pytest.raises(BadInput, match=r"holds neither 'a.csv' .*it holds fairface_label_train"):
        take_in("fairface", source, train_labels="a.csv", val_labels="b.csv")


@pytest.mark.data
def test_the_published_validation_faces_are_read(shared_data: Path, take_in: TakeIn) -> None:
    summary, table = take_in("fairface", shared_data / "faces")
    assert (summary.rows, summary.usable) == (800, 800)
    assert set(table["split"]) == {"test"}
    assert table["race"].nunique() == 7 and set(table["gender"]) == {"Female", "Male"}
