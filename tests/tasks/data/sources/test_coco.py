"""COCO files: labels by declared rule, boxes as regions, nothing believed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.contract import BadConfig, BadInput
from tasks.data.ingest import Summary, ingest
from tasks.data.sources import open_source
from tasks.data.sources.coco_file import read_coco
from tasks.spec import Coco, CsvImages

Encode = Callable[..., bytes]

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def image(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number}.png", "width": 48, "height": 24, **fields}


def drawn(number: int, category: int = 1, **fields: Any) -> dict[str, Any]:
    return {"image_id": number, "category_id": category, "bbox": [0, 0, 24, 24], **fields}


def document(**parts: Any) -> dict[str, Any]:
    return {
        "categories": CATEGORIES,
        "images": [image(1), image(2), image(3)],
        "annotations": [drawn(1), drawn(1, 1), drawn(2, 2), drawn(2, 1, bbox=[36, 12, 12, 12])],
        **parts,
    }


@pytest.fixture
def folder(tmp_path: Path, image_bytes: Encode) -> Path:
    root = tmp_path / "source"
    (root / "images").mkdir(parents=True)
    for number in (1, 2, 3):
        (root / f"images/{number}.png").write_bytes(image_bytes(number))
    return root


def take_in(
    root: Path, content: Any, tmp_path: Path, **fields: Any
) -> tuple[Summary, pd.DataFrame]:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (root / "boxes.json").write_bytes(text)
    out = tmp_path / "out"
    out.mkdir()
    spec = Coco.model_validate({"uri": str(root), "annotations": "boxes.json", **fields})
    summary = ingest(open_source(spec), out, scratch=tmp_path / "scratch")
    return summary, pd.read_parquet(out / "metadata.parquet")


def mask(tmp_path: Path, name: str) -> np.ndarray:
    with Image.open(tmp_path / "out/regions" / name) as opened:
        return np.asarray(opened.convert("L")) > 0


def test_an_image_has_its_label_all_its_labels_and_its_boxes(folder: Path, tmp_path: Path) -> None:
    summary, table = take_in(folder, document(), tmp_path, multi_label="first")
    assert table["label"].fillna("").tolist() == ["cat", "dog", ""]
    assert table["labels"].fillna("").tolist() == ["cat", "dog|cat", ""]
    assert table["boxes"].tolist() == ["2", "2", "0"]
    assert summary.warnings == ["1 images have several labels and have the first in the file"]
    assert summary.regions == 2


def test_the_region_is_where_the_boxes_of_the_label_are(folder: Path, tmp_path: Path) -> None:
    # the image here is smaller than the one that was annotated, and of other proportions
    _, table = take_in(
        folder, document(), tmp_path, multi_label="priority", priority=["bird", "cat"]
    )
    assert table.loc[1, "label"] == "cat"
    expected = np.zeros((24, 24), bool)
    expected[12:, 18:] = True
    assert np.array_equal(mask(tmp_path, table.loc[1, "region_path"]), expected)


def test_region_labels_say_which_boxes_count(folder: Path, tmp_path: Path) -> None:
    summary, table = take_in(
        folder, document(), tmp_path, multi_label="drop", region_labels=["dog"]
    )
    assert table["label"].fillna("").tolist() == ["cat", "", ""]
    assert summary.regions == 1
    assert mask(tmp_path, table.loc[1, "region_path"]).mean() == 0.5


def test_a_region_label_that_no_box_has_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"no box is labelled 'lung'; there is 'cat', 'dog'"):
        take_in(folder, document(), tmp_path, region_labels=["lung"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"1 images have several labels: 2\.png \(dog, cat\); say what becomes of them with"),
        (
            {"multi_label": "priority", "priority": ["bird"]},
            r"none of them in source.priority: 2\.png \(dog, cat\); add one",
        ),
    ],
)
def test_several_labels_stop_the_night_unless_a_rule_is_declared(
    folder: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        take_in(folder, document(), tmp_path, **fields)


def test_fields_of_the_images_become_columns(folder: Path, tmp_path: Path) -> None:
    inner = {"sex": "F", "license": "CC BY", "label": "x", "list": [1]}
    images = [image(1, license=4, metadata=inner), image(2, date="2020", flag=True), image(3)]
    _, table = take_in(folder, document(images=images, annotations=[drawn(1)]), tmp_path)
    row = table.loc[0, ["license", "metadata_license", "sex", "source_label", "label"]]
    assert row.tolist() == ["4", "CC BY", "F", "x", "cat"]
    assert table["date"].fillna("").tolist() == ["", "2020", ""]
    assert table.loc[1, "flag"] == "true" and "list" not in table


def test_what_tools_leave_behind_is_counted_not_refused(folder: Path, tmp_path: Path) -> None:
    odd = [
        drawn(1, bbox=[None] * 4),
        drawn(1, bbox=[]),
        drawn(1, bbox=[100, 100, 5, 5]),
        drawn(1, bbox=[3, 3, 0, 5]),
        drawn(9),
        drawn(2, bbox=[-5, -5, 500, 500], segmentation=[[0, 0, 1, 1]]),
    ]
    summary, table = take_in(folder, document(annotations=odd), tmp_path)
    assert summary.warnings == [
        "boxes.json: 1 annotations belong to no image of the file",
        "boxes.json: 2 annotations have no box",
        "boxes.json: 2 boxes are empty or outside of their image",
    ]
    assert mask(tmp_path, table.loc[1, "region_path"]).all()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (b"[1]", "boxes.json: holds a list where an object is expected"),
        (b'{"images": [', "is no JSON that can be read"),
        (b"\xff\xfe{", "is no JSON that can be read"),
        (b'{"images": NaN}', "NaN is no JSON"),
        (b'{"images": [], "images": []}', "key 'images' is given twice"),
        (b'{"a":' * 200_000, "is nested too deeply"),
        (b'{"images": "\\ud800"}', "surrogates not allowed"),
        (b'{"images": %s}' % (b"9" * 5000), "is no JSON that can be read"),
        ({"images": {}}, "images: is an object, not a list"),
        ({"images": [3]}, r"images\[0\]: is a number, not an object"),
        ({"images": [image(1, file_name=7)]}, r"images\[0\]\.file_name: is a number, not a text"),
        ({"images": [image(1), image(1)]}, r"images\[1\]\.id: 1 is the id of an earlier image"),
        ({"images": [image(1, id=None)]}, r"images\[0\]\.id: 'None' is no id"),
        ({"annotations": [drawn(1, 7)]}, r"there is no category 7; there are 1, 2"),
        ({"annotations": [drawn(1, bbox=[1, 2, 3])]}, "has 3 numbers, not x, y, width and height"),
        ({"annotations": [drawn(1, bbox=[1, 2, 3, "four"])]}, r"bbox: 'four' is no number"),
        ({"annotations": [drawn(1, bbox=[1, 2, 3, 10**400])]}, "is no number"),
        (b"<!DOCTYPE html><title>Sign in</title>", "is no annotation file but a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"PK\x03\x04" + bytes(99), "a zip archive"),
        (
            {"images": [image(1, label="x", source_label="y")], "annotations": []},
            "the source gives column 'source_label' more than once",
        ),
        (
            {"categories": [*CATEGORIES, {"id": 1, "name": "cow"}]},
            r"categories\[2\]\.id: 1 is the id of 'cat' and of 'cow'",
        ),
        (
            {"annotations": [drawn("film7"), drawn("film8")]},
            r"none of 2 annotations belongs to .* such as 'film7', the images' ids are 1, 2, 3",
        ),
        (
            {"images": [image(1), image(2, id="1"), image(3)], "annotations": [drawn("01")]},
            r"none of 1 annotations belongs to .* such as '01', the images' ids are 1, '1', 3",
        ),
        (
            {"images": [image(1, **{f"f{n}": n for n in range(501)})], "annotations": []},
            "have 501 different fields; 500 are allowed",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(
    folder: Path, tmp_path: Path, parts: Any, message: str
) -> None:
    content = parts if isinstance(parts, bytes) else document(**parts)
    with pytest.raises(BadInput, match=message) as error:
        take_in(folder, content, tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("width", ["", "x", 0, -1, "0", "1_0", "nan", [48], True, 10**400])
def test_a_size_that_is_none_is_told_and_costs_no_label(
    folder: Path, tmp_path: Path, width: object
) -> None:
    images = [image(1, width=width), image(2, width="48", height=" 24.0 "), image(3)]
    boxes = [drawn(1, bbox=[12, 0, 12, 24]), drawn(2, bbox=["24", 0, "24", "24"]), drawn(3)]
    summary, table = take_in(folder, document(images=images, annotations=boxes), tmp_path)
    assert table["label"].tolist() == ["cat"] * 3
    for name in table["region_path"][:2]:
        assert mask(tmp_path, name)[:, 12:].all() and not mask(tmp_path, name)[:, :12].any()
    (told,) = summary.warnings
    assert "1 images have a size that is none" in told and "of '1.png'" in told


def test_a_file_of_another_unicode_encoding_is_read(folder: Path, tmp_path: Path) -> None:
    content = json.dumps(document(images=[image(1)], annotations=[drawn(1)])).encode("utf-16")
    assert take_in(folder, content, tmp_path)[1]["label"].tolist() == ["cat"]


def test_images_without_a_size_have_labels_and_boxes_all_the_same(
    folder: Path, tmp_path: Path
) -> None:
    images = [
        {"id": 1, "file_name": "1.png"},
        image(2, width=None),
        image(3, width=None, height=None),
    ]
    boxes = [drawn(number, bbox=[12, 0, 100, 12]) for number in (1, 2, 3)]
    summary, table = take_in(folder, document(images=images, annotations=boxes), tmp_path)
    assert table["label"].tolist() == ["cat"] * 3
    assert (
        "1 images have a size that is none, such as 'None' x '24' of '2.png'" in summary.warnings[0]
    )
    assert summary.regions == 3
    # the images are 24 x 24
    for name in table["region_path"]:
        assert mask(tmp_path, name).mean() == 0.25
        assert mask(tmp_path, name)[:12, 12:].all()


def test_an_image_without_a_size_is_measured_as_it_was_shown(folder: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(1).integers(0, 255, (24, 48, 3), np.uint8)
    Image.fromarray(noise).save(folder / "images/4.jpg", exif=exif)
    # stored 48 x 24, shown 24 x 48: the box is the upper half
    content = document(
        images=[{"id": 4, "file_name": "4.jpg"}], annotations=[drawn(4, bbox=[0, 0, 24, 24])]
    )
    _, table = take_in(folder, content, tmp_path)
    found = mask(tmp_path, table.loc[0, "region_path"])
    assert found.shape == (48, 24)
    assert found[:24].all() and not found[24:].any()


@pytest.mark.parametrize(
    ("of_images", "of_annotations"), [(str, int), (int, str), ("{:012d}".format, int), (int, float)]
)
def test_ids_that_one_tool_writes_as_texts_and_another_as_numbers_are_the_same(
    folder: Path,
    tmp_path: Path,
    of_images: Callable[[int], Any],
    of_annotations: Callable[[int], Any],
) -> None:
    images = [image(n, id=of_images(n)) for n in (1, 2, 3)]
    boxes = [drawn(of_annotations(n), str(1 + n % 2)) for n in (1, 2, 3)]
    summary, table = take_in(folder, document(images=images, annotations=boxes), tmp_path)
    assert table["label"].tolist() == ["dog", "cat", "dog"]
    assert summary.regions == 3
    assert "category_id is another kind of value than the id that it means" in summary.warnings[-1]


def test_ids_that_read_alike_are_told_apart_where_both_are_there(
    folder: Path, tmp_path: Path
) -> None:
    images = [image(1), image(2, id="1"), image(3)]
    boxes = [drawn(1, 1), drawn("1", 2)]
    _, table = take_in(folder, document(images=images, annotations=boxes), tmp_path)
    assert table["label"].fillna("").tolist() == ["cat", "dog", ""]


@pytest.mark.parametrize("prefix", ["images\\", "images/", ".\\", "..\\..\\media\\upload\\4\\"])
@pytest.mark.parametrize("where", ["images", "."])
def test_what_label_studio_exports_is_found(
    folder: Path, tmp_path: Path, prefix: str, where: str
) -> None:
    if where == ".":
        prefix = prefix.replace("4\\", "images\\") if "upload" in prefix else prefix
    images = [image(n, file_name=f"{prefix}{n}.png") for n in (1, 2, 3)]
    summary, _ = take_in(
        folder, document(images=images), tmp_path, multi_label="first", images=where
    )
    assert summary.usable == 3


def test_a_file_name_never_leads_out_of_the_images_folder(
    folder: Path, tmp_path: Path, image_bytes: Encode
) -> None:
    (folder / "secret.png").write_bytes(image_bytes(9))
    names = ["../secret.png", str(folder / "secret.png"), "https://example.org/a.png", "n" * 300]
    images = [image(1), *(image(n, file_name=name) for n, name in enumerate(names, 2))]
    _, table = take_in(
        folder,
        document(images=images),
        tmp_path,
        max_missing=1,
        max_quarantined=1,
        multi_label="drop",
    )
    assert table["image_status"].tolist() == ["ok", "outside", "outside", "outside", "missing"]
    assert [path.name for path in (tmp_path / "out/images").iterdir()] == ["1.png"]


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no file 'boxes.json' \(source.annotations\)"):
        open_source(Coco(uri=str(folder), annotations="boxes.json")).open(tmp_path / "scratch")
    (folder / "boxes.json").write_text("{}")
    with pytest.raises(BadInput, match=r"holds no folder 'films' \(source.images\)"):
        open_source(Coco(uri=str(folder), annotations="boxes.json", images="films")).open(
            tmp_path / "scratch"
        )


def test_boxes_stand_in_where_a_table_of_images_has_no_mask(
    folder: Path, tmp_path: Path, image_bytes: Encode
) -> None:
    (folder / "metadata.csv").write_text("filename\n1.png\n2.png\n3.png\n")
    (folder / "masks").mkdir()
    (folder / "masks/1.png").write_bytes(image_bytes(8))
    (folder / "boxes.json").write_text(json.dumps(document()))
    spec = CsvImages(uri=str(folder), regions="masks/{stem}.png", region_boxes="boxes.json")
    reader = open_source(spec)
    before = reader.state()
    (tmp_path / "out").mkdir()
    ingest(reader, tmp_path / "out", scratch=tmp_path / "scratch")
    table = pd.read_parquet(tmp_path / "out/metadata.parquet")
    regions = table["region_path"].fillna("").tolist()
    assert regions[0] == "masks/1.png" and regions[2] == ""
    assert mask(tmp_path, regions[1]).mean() == 0.5 + 0.125
    (folder / "boxes.json").write_text(json.dumps(document(annotations=[])))
    assert reader.state() != before


@pytest.mark.data
def test_the_lung_boxes_of_the_public_chest_films_hold_the_lung_masks(shared_data: Path) -> None:
    root = shared_data / "covid-chestxray"
    images, warnings = read_coco(root / "annotations/imageannotation_ai_lung_bounding_boxes.json")
    assert len(images) == 167
    assert warnings == ["imageannotation_ai_lung_bounding_boxes.json: 2 annotations have no box"]
    shares = []
    for each in images:
        path = root / f"annotations/lungVAE-masks/{Path(each.name).stem}_mask.png"
        if path.exists():
            with Image.open(path) as opened:
                lungs = np.asarray(opened.convert("L")) > 0
            height, width = lungs.shape
            inside = np.zeros_like(lungs)
            for _, box in each.boxes:
                rows = slice(round(box.top * height), round(box.bottom * height))
                inside[rows, round(box.left * width) : round(box.right * width)] = True
            shares.append(lungs[inside].sum() / lungs.sum())
    assert len(shares) >= 40 and np.mean(shares) > 0.97 and min(shares) > 0.9


def test_boxes_are_found_under_another_spelling_of_the_name_in_the_table(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "metadata.csv").write_text("filename\n1\n2.PNG\n3.png\n")
    images = [image(1), image(2, file_name="images\\2.png"), image(3, file_name="export/3.png")]
    boxes = [drawn(n) for n in (1, 2, 3)]
    (folder / "boxes.json").write_text(json.dumps(document(images=images, annotations=boxes)))
    (tmp_path / "out").mkdir()
    spec = CsvImages(uri=str(folder), region_boxes="boxes.json")
    summary = ingest(open_source(spec), tmp_path / "out", scratch=tmp_path / "scratch")
    assert summary.regions == 3


def test_boxes_that_belong_to_no_row_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "metadata.csv").write_text("filename\n1.png\n2.png\n")
    (folder / "boxes.json").write_text(json.dumps(document(annotations=[drawn(1), drawn(3)])))
    (tmp_path / "out").mkdir()
    spec = CsvImages(uri=str(folder), region_boxes="boxes.json")
    summary = ingest(open_source(spec), tmp_path / "out", scratch=tmp_path / "scratch")
    assert summary.regions == 1
    assert summary.warnings == ["boxes.json: 1 of 2 images with boxes are in no row, such as 3.png"]
