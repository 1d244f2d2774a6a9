"""Sources are taken in whole, with everything that is wrong in them counted and named."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tasks.contract import BadConfig, BadInput, NoInput
from tasks.data.ingest import Summary, ingest
from tasks.data.sources import open_source
from tasks.spec import CsvImages

Make = Callable[..., Path]
Encode = Callable[..., bytes]


def _ingest(tmp_path: Path, source: Path | str, **fields: object) -> tuple[Summary, pd.DataFrame]:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    spec = CsvImages.model_validate({"uri": str(source), **fields})
    summary = ingest(open_source(spec), out, scratch=tmp_path / "scratch")
    return summary, pd.read_parquet(out / "metadata.parquet")


def test_every_row_is_kept_with_what_became_of_its_image(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    rows = [
        {"patientid": "1", "sex": "M", "filename": "a.png"},
        {"patientid": "1", "sex": "", "filename": "b.jpg"},
        {"patientid": "2", "sex": "NA", "filename": "gone.png"},
        {"patientid": "3", "sex": "F", "filename": "page.png"},
        {"patientid": "4", "sex": "F", "filename": "copy.png"},
        {"patientid": "5", "sex": "F", "filename": "a.png"},
        {"patientid": "6", "sex": "F", "filename": ""},
    ]
    files = {
        "a.png": image_bytes(1),
        "b.jpg": image_bytes(2, kind="JPEG"),
        "page.png": b"<html>",
        "copy.png": image_bytes(1),
    }
    source = make_source(rows, files)
    summary, table = _ingest(tmp_path, source, max_missing=0.5, max_quarantined=0.5)
    assert list(table["image_status"]) == [
        "ok",
        "ok",
        "missing",
        "not_an_image",
        "ok",
        "repeated",
        "missing",
    ]
    assert list(table.columns[:3]) == ["patientid", "sex", "filename"]
    assert table["sex"].isna().tolist() == [False, True, True, False, False, False, False]
    assert table["image_id"].is_unique
    assert table.loc[4, "duplicate_of"] == "a.png"
    assert table.loc[0, ["image_width", "image_mode"]].tolist() == [24, "L"]
    assert (summary.usable, summary.missing, summary.quarantined, summary.duplicates) == (
        3,
        2,
        1,
        1,
    )
    with (tmp_path / "out/quarantine.csv").open() as stream:
        unusable = [
            (line["row"], line["filename"], line["status"]) for line in csv.DictReader(stream)
        ]
    assert unusable == [
        ("3", "gone.png", "missing"),
        ("4", "page.png", "not_an_image"),
        ("6", "a.png", "repeated"),
        ("7", "", "missing"),
    ]
    taken = {p.name for p in (tmp_path / "out/images").iterdir()}
    assert taken == {"a.png", "b.jpg", "copy.png"}
    assert (tmp_path / "out/images/a.png").samefile(source / "images/a.png")
    assert json.loads((tmp_path / "out/summary.json").read_text())["by_status"]["repeated"] == 1


def test_what_people_open_shows_no_credential_and_no_control_character(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    """A table's cells are the user's own data, and go on as they are."""
    names = [
        "https://bucket/x.png?X-Amz-Signature=hunter2",
        f"https://u:{'x' * 200}hunter2@h/x.png",
        "evil\x1b[31m\u202egnp.png",
        "../evil\x1b[31m\u202egnp.png?token=hunter2",
        "error.png",
    ]
    rows = [{"filename": "a.png"}, *({"filename": name} for name in names)]
    files = {
        "a.png": image_bytes(1),
        "evil\x1b[31m\u202egnp.png": b"no image",
        "error.png": b"<Error>token=hunter2",
    }
    _, table = _ingest(tmp_path, make_source(rows, files), max_missing=1, max_quarantined=1)
    assert table["filename"].tolist()[1:] == names
    for name in ("quarantine.csv", "summary.json"):
        text = (tmp_path / "out" / name).read_text("utf-8")
        assert "hunter2" not in text and "***" in text
        assert text.replace("\n", "").isprintable()
    with (tmp_path / "out/quarantine.csv").open() as stream:
        assert r"evil\x1b[31m\u202egnp.png" in [line["filename"] for line in csv.DictReader(stream)]


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "../../../../etc/passwd",
        "/etc/passwd",
        "sub/../../secret.png",
        "../a.png",
        "sub/../a.png",
        "..\\..\\a.png",
        "/images/a.png",
        "LINK.png",
        "Door/secret.png",
        "..",
        "door/secret.png",
        "link.png",
        "n" * 5000,
        "a\0b.png",
    ],
)
def test_a_file_name_never_leads_out_of_the_images_folder(
    tmp_path: Path, make_source: Make, image_bytes: Encode, name: str
) -> None:
    source = make_source([{"filename": "a.png"}, {"filename": name}], {"a.png": image_bytes()})
    (source / "secret.png").write_bytes(image_bytes(9))
    (source / "images/link.png").symlink_to(source / "secret.png")
    (source / "images/door").symlink_to(source)
    _, table = _ingest(tmp_path, source, max_missing=1, max_quarantined=1)
    assert table.loc[1, "image_status"] in ("outside", "missing")
    assert [p.name for p in (tmp_path / "out/images").rglob("*")] == ["a.png"]


def test_masks_are_found_by_pattern_and_never_outside(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    rows = [{"filename": "a.png"}, {"filename": "sub/b.jpg"}, {"filename": "c.png"}]
    files = {
        "a.png": image_bytes(1),
        "sub/b.jpg": image_bytes(2, kind="JPEG"),
        "c.png": image_bytes(3),
    }
    source = make_source(rows, files)
    for name in ("a_mask.png", "sub/b_mask.png"):
        path = source / "notes/masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes())
    summary, table = _ingest(tmp_path, source, regions="notes/masks/{stem}_mask.png")
    assert table["region_path"].fillna("").tolist() == [
        "masks/a_mask.png",
        "masks/sub/b_mask.png",
        "",
    ]
    assert summary.regions == 2
    assert (tmp_path / "out/regions/masks/sub/b_mask.png").exists()


def test_too_many_missing_images_stop_the_night_with_examples(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    rows = [{"filename": f"{number}.png"} for number in range(10)]
    source = make_source(rows, {f"{number}.png": image_bytes(number) for number in range(3)})
    with pytest.raises(
        BadInput,
        match=r"7 of 10 rows have no image \(70.0%; source.max_missing is 10.0%\): row 4 3.png",
    ) as error:
        _ingest(tmp_path, source)
    assert str(error.value).count("no such file") == 5


def test_too_many_bad_images_stop_the_night_with_reasons(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    rows = [{"filename": f"{number}.png"} for number in range(4)]
    files = {f"{number}.png": image_bytes(number) for number in range(3)} | {"3.png": b"GIF89a"}
    with pytest.raises(
        BadInput, match=r"1 of 4 images cannot be used .*max_quarantined.*row 4 3.png"
    ):
        _ingest(tmp_path, make_source(rows, files))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "its columns are none"),
        ("name\na.png\n", r"no column 'filename' \(source.filename_column\); its columns are name"),
        ("filename,sex,sex\n", "column 'sex' appears more than once"),
        ("filename,sex\na.png,M,surplus\n", "row 1 has 3 cells where the header has 2.*'surplus'"),
        ("filename\n", "the source's table has no rows"),
        ('filename\n"a.png\n', "cannot be read as a table"),
    ],
)
def test_a_table_that_is_wrong_is_named(
    tmp_path: Path, make_source: Make, table: str, message: str
) -> None:
    source = make_source([{"filename": "a.png"}], {})
    (source / "metadata.csv").write_text(table)
    with pytest.raises(BadInput, match=message):
        _ingest(tmp_path, source)


def test_tables_as_spreadsheets_write_them_are_read(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    source = make_source([{"filename": "ä.png"}], {"ä.png": image_bytes()})
    text = '\ufefffilename,note,\r\nä.png,"two\nlines, one comma",\r\n\r\n'
    (source / "metadata.csv").write_bytes(text.encode())
    _, table = _ingest(tmp_path, source)
    assert table.loc[0, "note"] == "two\nlines, one comma"
    assert list(table.columns[:3]) == ["filename", "note", "unnamed_3"]


def test_columns_of_the_source_never_mask_our_own(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    source = make_source([{"filename": "a.png", "image_id": "x"}], {"a.png": image_bytes()})
    summary, table = _ingest(tmp_path, source)
    assert table.loc[0, ["source_image_id", "image_id"]].tolist() == ["x", "a.png"]
    assert summary.warnings == ["source column 'image_id' is kept as 'source_image_id'"]


def test_an_archive_wrapped_in_one_folder_is_entered(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    source = make_source([{"filename": "a.png"}], {"a.png": image_bytes()}, name="wrapped-master")
    with tarfile.open(tmp_path / "data.tar.xz", "w:xz") as archive:
        archive.add(source, arcname="wrapped-master")
    summary, _ = _ingest(tmp_path, tmp_path / "data.tar.xz")
    assert summary.usable == 1


def test_what_is_not_there_is_named_with_what_is(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    source = make_source([{"filename": "a.png"}], {"a.png": image_bytes()})
    with pytest.raises(NoInput, match="does not exist"):
        _ingest(tmp_path, tmp_path / "absent")
    with pytest.raises(BadInput, match=r"no folder 'pictures' .*it holds images/, metadata.csv"):
        _ingest(tmp_path, source, images="pictures")
    with pytest.raises(BadInput, match=r"no table 'labels.csv'"):
        _ingest(tmp_path, source, metadata="labels.csv")
    with pytest.raises(BadInput, match="neither a folder nor an archive"):
        _ingest(tmp_path, source / "images/a.png")
    with pytest.raises(BadConfig, match="scheme 'ftp'"):
        _ingest(tmp_path, "ftp://host/data")


def test_the_state_changes_when_a_file_that_is_read_does(
    make_source: Make, image_bytes: Encode
) -> None:
    source = make_source([{"filename": "a.png"}], {"a.png": image_bytes()})
    reader = open_source(CsvImages(uri=str(source), regions="masks/{stem}.png"))
    first = reader.state()
    (source / "notes.txt").write_text("of no interest")
    assert reader.state() == first
    (source / "images/b.png").write_bytes(image_bytes(2))
    second = reader.state()
    os.utime(source / "metadata.csv", (1, 1))
    third = reader.state()
    (source / "masks").mkdir()
    (source / "masks/a.png").write_bytes(image_bytes())
    assert len({first, second, third, reader.state()}) == 4


def test_images_that_are_stored_turned_are_counted_and_told(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    turned = [_turned(orientation) for orientation in (1, 3, 6)]
    files = {f"{number}.jpg": content for number, content in enumerate([*turned, image_bytes(9)])}
    summary, _ = _ingest(tmp_path, make_source([{"filename": name} for name in files], files))
    assert summary.to_dict()["turned"] == 2
    assert summary.warnings == [
        "2 of 4 images are stored turned or mirrored, as their EXIF orientation says: training and "
        "serving put them upright, unless train.exif_orientation is 'ignore'"
    ]


def test_jpegs_with_a_hole_in_their_data_are_counted_and_told(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    good = image_bytes(1, kind="JPEG", size=96)
    data = good.index(b"\xff\xda") + 20
    files = {
        "good.jpg": good,
        "tail.jpg": good[: data + 900] + bytes(len(good) - data - 902) + b"\xff\xd9",
        "filled.jpg": good + bytes(4096),
        "comment.jpg": good[:2] + b"\xff\xfe\x10\x02" + bytes(4096) + good[2:],
    }
    source = make_source([{"filename": name} for name in files], files)
    summary, _ = _ingest(tmp_path, source)
    (told,) = [each for each in summary.warnings if "runs of zeros" in each]
    assert told.startswith("1 JPEG files") and "tail.jpg" in told


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = BytesIO()
    Image.new("L", (24, 16), 20 * orientation).save(buffer, "JPEG", exif=exif.tobytes())
    return buffer.getvalue()


def test_a_plain_image_set_is_verified_without_tensorflow(
    make_source: Make, image_bytes: Encode
) -> None:
    kinds = [("a.jpg", "JPEG"), ("b.png", "PNG"), ("c.webp", "WEBP")]
    source = make_source(
        [{"filename": name} for name, _ in kinds],
        {name: image_bytes(kind=kind, size=64) for name, kind in kinds},
    )
    script = (
        "import sys; from pathlib import Path; from tasks.data.images import inspect\n"
        f"facts = [inspect(path) for path in Path({str(source / 'images')!r}).iterdir()]\n"
        "print([each.status for each in facts], 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['ok', 'ok', 'ok'] False\n"


def test_a_mask_that_lies_on_its_side_is_told(tmp_path: Path, make_source: Make) -> None:
    names = ["lying.jpg", "standing.jpg"]
    source = make_source([{"filename": name} for name in names], dict.fromkeys(names, _turned(6)))
    (source / "masks").mkdir()
    # stored as 24 x 16, seen as 16 x 24
    Image.new("L", (24, 16)).save(source / "masks/lying.png")
    Image.new("L", (16, 24)).save(source / "masks/standing.png")
    summary, _ = _ingest(tmp_path, source, regions="masks/{stem}.png")
    assert summary.regions == 2
    assert summary.warnings[-1] == (
        "1 masks have the size of their image as it is stored, though EXIF turns it by a quarter: "
        "masks are taken to be drawn on the image upright, so turn them, unless "
        "train.exif_orientation is 'ignore'"
    )
