"""Buckets labelled with Cloud Annotations: labels by declared rule, boxes as regions."""

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from tasks.contract import BadInput, NoInput
from tasks.data.ingest import Summary, ingest
from tasks.data.sources import open_source
from tasks.data.sources.cloud_annotations import read_cloud_annotations
from tasks.spec import CloudAnnotations

Encode = Callable[..., bytes]

BOXED = {
    "version": "1.0",
    "type": "localization",
    "labels": ["mug", "cup"],
    "annotations": {
        "a.png": [
            {"label": "mug", "x": 0, "y": 0, "x2": 0.5, "y2": 0.5},
            {"label": "mug", "x": 0.5, "y": 0.5, "x2": 1, "y2": 1},
        ],
        "b.png": [
            {"label": "cup", "x": 0, "y": 0, "x2": 1, "y2": 0.25},
            {"label": "mug", "x": 0, "y": 0.5, "x2": 1, "y2": 1},
        ],
        "c.png": [],
    },
}


@pytest.fixture
def folder(tmp_path: Path, image_bytes: Encode) -> Path:
    root = tmp_path / "bucket"
    root.mkdir()
    for number, name in enumerate("abc"):
        (root / f"{name}.png").write_bytes(image_bytes(number))
    (root / "_annotations.json").write_text(json.dumps(BOXED))
    return root


def annotated(root: Path, annotations: Any, **fields: Any) -> Path:
    document = {**BOXED, "annotations": annotations, **fields}
    (root / "_annotations.json").write_text(json.dumps(document))
    return root


def take_in(root: Path, tmp_path: Path, **fields: Any) -> tuple[Summary, pd.DataFrame]:
    out = tmp_path / "out"
    out.mkdir()
    spec = CloudAnnotations.model_validate({"uri": str(root), "max_missing": 1, **fields})
    summary = ingest(open_source(spec), out, scratch=tmp_path / "scratch")
    return summary, pd.read_parquet(out / "metadata.parquet")


def share(tmp_path: Path, table: pd.DataFrame, row: int) -> float:
    with Image.open(tmp_path / "out/regions" / table.loc[row, "region_path"]) as opened:
        return float((np.asarray(opened.convert("L")) > 0).mean())


def test_labels_and_boxes_come_out_as_they_were_drawn(folder: Path, tmp_path: Path) -> None:
    summary, table = take_in(folder, tmp_path, multi_label="first")
    assert list(table.columns[:4]) == ["filename", "label", "labels", "boxes"]
    assert table["label"].fillna("").tolist() == ["mug", "cup", ""]
    assert table["labels"].fillna("").tolist() == ["mug", "cup|mug", ""]
    assert summary.usable == 3 and summary.regions == 2
    # the region of an image is where its own label's boxes are
    assert share(tmp_path, table, 0) == 0.5 and share(tmp_path, table, 1) == 0.25


@pytest.mark.parametrize(
    ("fields", "label", "region"),
    [
        ({"multi_label": "first"}, "cup", 0.25),
        ({"multi_label": "priority", "priority": ["mug", "cup"]}, "mug", 0.5),
        ({"multi_label": "drop"}, None, None),
        ({"multi_label": "drop", "region_labels": ["cup", "mug"]}, None, 0.75),
    ],
)
def test_an_image_with_several_labels_follows_the_declared_rule(
    folder: Path, tmp_path: Path, fields: dict[str, Any], label: str | None, region: float | None
) -> None:
    summary, table = take_in(folder, tmp_path, **fields)
    assert table["label"].isna().tolist()[1] == (label is None)
    assert label is None or table.loc[1, "label"] == label
    assert table["region_path"].isna().tolist()[1] == (region is None)
    assert region is None or share(tmp_path, table, 1) == region
    assert summary.warnings[0].startswith("1 images have several labels and ")


def test_without_a_rule_several_labels_stop_the_night(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"b\.png \(cup, mug\); say what .*source.multi_label: drop"):
        take_in(folder, tmp_path)


@pytest.mark.parametrize(
    "fields", [{"multi_label": "priority"}, {"multi_label": "first", "priority": ["mug"]}]
)
def test_a_priority_goes_with_its_rule(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="do not go together"):
        CloudAnnotations.model_validate({"uri": "x", **fields})


def test_labels_without_boxes_are_read(folder: Path, tmp_path: Path) -> None:
    annotated(
        folder, {"a.png": [{"label": " mug "}], "b.png": [{"label": "jar"}]}, type="classification"
    )
    summary, table = take_in(folder, tmp_path)
    assert table["label"].tolist() == ["mug", "jar"] and summary.regions == 0
    assert summary.warnings == ["_annotations.json: uses labels that its own list lacks: jar"]


def test_images_may_lie_in_a_folder_or_an_archive(folder: Path, tmp_path: Path) -> None:
    (folder / "pictures").mkdir()
    for path in list(folder.glob("*.png")):
        path.rename(folder / "pictures" / path.name)
    archive = tmp_path / "bucket.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in folder.rglob("*"):
            opened.write(path, f"wrapped/{path.relative_to(folder)}")
    fields = {"images": "pictures", "multi_label": "first"}
    spec = CloudAnnotations.model_validate({"uri": str(folder), **fields})
    assert "png" not in open_source(spec).state()
    summary, _ = take_in(archive, tmp_path, **fields)
    assert summary.usable == 3


def test_the_state_changes_with_labels_and_named_images_only(
    folder: Path, image_bytes: Encode
) -> None:
    reader = open_source(CloudAnnotations(uri=str(folder), multi_label="first"))
    first = reader.state()
    (folder / "model.keras").write_text("of no interest")
    assert reader.state() == first
    (folder / "a.png").write_bytes(image_bytes(8, size=30))
    second = reader.state()
    annotated(folder, {"a.png": [{"label": "mug"}]})
    assert len({first, second, reader.state()}) == 3


def test_an_image_name_never_leads_out_of_the_bucket(
    folder: Path, tmp_path: Path, image_bytes: Encode
) -> None:
    (tmp_path / "secret.png").write_bytes(image_bytes(9))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    names = ["a.png", "../secret.png", "/etc/passwd", "link.png", "s3://b/x", "a\0", "", "n" * 300]
    annotated(folder, {name: [{"label": "mug"}] for name in names})
    _, table = take_in(folder, tmp_path, max_quarantined=1)
    assert table["image_status"].tolist() == ["ok", *["outside"] * 6, "missing"]
    assert [path.name for path in (tmp_path / "out/images").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([], "annotations: is a list, not an object"),
        (None, "annotations: is null, not an object"),
        ({"a.png": {}}, r"annotations\['a\.png'\]: is an object, not a list"),
        ({"a.png": ["mug"]}, r"annotations\['a\.png'\]\[0\]: is a text, not an object"),
        ({"a.png": [{}]}, r"\[0\]\.label: is null, not a text"),
        ({"a.png": [{"label": " "}]}, r"\[0\]\.label: is blank; label the image or"),
        ({"a.png": [{"label": "mug", "x": 0.1}]}, r"\[0\]\.y: 'None' is no number"),
        (
            {"a.png": [{"label": "mug", "x": 1, "y": 1, "x2": 120, "y2": 90}]},
            r"is in pixels; Cloud Annotations gives fractions",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(
    folder: Path, tmp_path: Path, annotations: Any, message: str
) -> None:
    with pytest.raises(BadInput, match=message) as error:
        take_in(annotated(folder, annotations), tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    annotated(folder, {}, type="segmentation")
    with pytest.raises(BadInput, match="'segmentation' is neither 'classification' nor 'local"):
        open_source(CloudAnnotations(uri=str(folder))).state()
    (folder / "_annotations.json").unlink()
    with pytest.raises(BadInput, match=r"holds no file '_annotations.json' \(source.annotations\)"):
        open_source(CloudAnnotations(uri=str(folder))).state()
    with pytest.raises(NoInput, match="does not exist"):
        open_source(CloudAnnotations(uri=str(tmp_path / "absent"))).state()


def test_many_labels_are_looked_up_at_once(tmp_path: Path) -> None:
    names = [f"kind {number}" for number in range(40_000)]
    annotations = {f"{name}.png": [{"label": f"other {name}"}] for name in names}
    path = annotated(tmp_path, annotations, labels=names) / "_annotations.json"
    started = time.process_time()
    images, _ = read_cloud_annotations(path)
    assert len(images) == len(names)
    # one after the other, in the list: a minute
    assert time.process_time() - started < 10


def test_a_list_of_labels_that_are_no_texts_is_refused(tmp_path: Path) -> None:
    path = annotated(tmp_path, {}, labels=[["mug"]]) / "_annotations.json"
    with pytest.raises(BadInput, match=r"^_annotations.json: labels: is a list, not a text$"):
        read_cloud_annotations(path)


BOX = [{"id": "p", "x": 0.5, "y": 1}, {"id": "q", "x": 0, "y": 0}]


def _version_2(**parts: Any) -> dict[str, Any]:
    return {
        "name": "mugs",
        "version": "v2",
        "labels": {"l1": {"id": "l1", "name": "mug"}, "l2": {"id": "l2", "name": "cup"}},
        "annotations": {
            "n1": {"id": "n1", "label": "l1", "tool": "box", "targets": BOX},
            "n2": {"id": "n2", "label": "l2", "tool": "tag"},
        },
        "images": {
            "a.png": {"id": "a.png", "date": "1", "annotations": ["n1"]},
            "b.png": {"id": "b.png", "date": "", "annotations": ["n2"]},
            "c.png": {"id": "c.png", "date": "", "annotations": []},
        },
        **parts,
    }


def test_the_second_version_of_the_format_is_read(folder: Path, tmp_path: Path) -> None:
    (folder / "_annotations.json").write_text(json.dumps(_version_2()))
    summary, table = take_in(folder, tmp_path)
    assert table["label"].fillna("").tolist() == ["mug", "cup", ""]
    assert table["boxes"].tolist() == ["1", "0", "0"]
    assert share(tmp_path, table, 0) == 0.5
    assert summary.warnings == []


def test_what_the_second_version_points_to_in_vain_is_told(folder: Path, tmp_path: Path) -> None:
    images = {"a.png": {"annotations": ["n1", "n9"]}, "b.png": {"annotations": None}}
    document = _version_2(images=images, labels={"l7": {"name": "jar"}})
    (folder / "_annotations.json").write_text(json.dumps(document))
    summary, table = take_in(folder, tmp_path)
    assert table["label"].fillna("").tolist() == ["l1", ""]
    assert summary.warnings == [
        "_annotations.json: uses labels that its own list lacks: l1",
        "_annotations.json: 1 annotations that images name are not in the file",
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"labels": ["mug"]},
        {"version": "1.0", "type": None, "labels": None},
        {"version": "1.0", "type": "localization", "labels": {"mug": {"name": "mug"}}},
        {"labels": [{"name": "mug"}]},
        {"labels": []},
    ],
)
def test_every_form_of_the_first_version_is_read(
    folder: Path, tmp_path: Path, document: dict[str, Any]
) -> None:
    annotations = {"a.png": [{"label": "mug", "x": 0, "x2": 0.5, "y": 0, "y2": 1}], "b.png": []}
    (folder / "_annotations.json").write_text(json.dumps({**document, "annotations": annotations}))
    summary, table = take_in(folder, tmp_path)
    assert table["label"].fillna("").tolist() == ["mug", ""]
    assert (summary.regions, summary.warnings) == (1, [])


def test_a_bucket_that_was_copied_to_a_folder_of_other_names_is_watched_by_them(
    folder: Path, tmp_path: Path, image_bytes: Encode
) -> None:
    annotated(folder, {"A.PNG": [{"label": "mug"}]})
    reader = open_source(CloudAnnotations(uri=str(folder)))
    before = reader.state()
    (folder / "a.png").write_bytes(image_bytes(8, size=30))
    assert reader.state() != before
