"""What a source section may say about files and folders."""

import json
from typing import Any

import pytest

from tasks.spec import SpecError, apply_overrides, load_pipeline, parse_overrides


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "csv_images", "metadata": "../x.csv"}, "metadata: leads out of the source"),
        ({"kind": "csv_images", "metadata": "/etc/passwd"}, "metadata: leads out of the source"),
        ({"kind": "csv_images", "images": "../.."}, "images: leads out of the source"),
        ({"kind": "csv_images", "images": "a/../../b"}, "images: leads out of the source"),
        ({"kind": "csv_images", "images": "..\\b"}, "images: leads out of the source"),
        ({"kind": "csv_images", "images": "file:///etc"}, "images: leads out of the source"),
        ({"kind": "csv_images", "regions": "../m/{stem}.png"}, "regions: leads out of the source"),
        ({"kind": "csv_images", "regions": "m/{stem}/../../x"}, "regions: leads out of the source"),
        ({"kind": "csv_images", "region_boxes": "../boxes.json"}, "region_boxes: leads out"),
        ({"kind": "csv_images", "regions": "m/{filename.__class__}"}, r"is none of \{filename\}"),
        ({"kind": "csv_images", "regions": "m/{stem!r}.png"}, r"\{stem!r\} is none of"),
        ({"kind": "csv_images", "regions": "m/{stem"}, r"\{stem is none of"),
        ({"kind": "coco", "annotations": "../a.json"}, "annotations: leads out of the source"),
        ({"kind": "coco", "annotations": "a.json", "images": "/"}, "images: leads out"),
        ({"kind": "cloud_annotations", "annotations": "../a.json"}, "annotations: leads out"),
        ({"kind": "parquet", "table": "../t"}, "table: leads out of the source"),
        ({"kind": "tfrecord", "records": "../t"}, "records: leads out of the source"),
        ({"kind": "class_folders", "images": "/data"}, "images: leads out of the source"),
        ({"kind": "fairface", "val_labels": "../v.csv"}, "val_labels: leads out of the source"),
        ({"kind": "cifar10", "test_batches": ["../b"]}, "test_batches.0: leads out of the source"),
        ({"kind": "csv_images", "uri": ""}, "uri: is empty; give a path"),
        ({"kind": "tfrecord", "uri": " "}, "uri: is empty; give a path"),
    ],
)
def test_a_source_keeps_to_its_own_folder(source: dict[str, Any], message: str) -> None:
    document = {"name": "films", "label": {"column": "x"}, "source": {"uri": "/data", **source}}
    with pytest.raises(SpecError, match=message):
        load_pipeline(json.dumps(document))


@pytest.mark.parametrize("value", ["", "''", ".", "null"])
def test_no_folder_is_the_source_itself(value: str) -> None:
    document = {"name": "films", "label": {"column": "x"}, "source": {"kind": "csv_images"}}
    document["source"]["uri"] = "/data"
    pipeline = load_pipeline(json.dumps(document))
    changed = apply_overrides(pipeline, parse_overrides([f"source.images={value}"]))
    assert changed.source.images in ("", ".")


@pytest.mark.parametrize("name", ["base64", "utf-99", "rot13"])
def test_an_encoding_that_there_is_not_is_named(name: str) -> None:
    source = {"kind": "csv_images", "uri": "/data", "encoding": name}
    document = {"name": "films", "label": {"column": "x"}, "source": source}
    with pytest.raises(SpecError, match=f"encoding: '{name}' is no encoding of texts"):
        load_pipeline(json.dumps(document))
