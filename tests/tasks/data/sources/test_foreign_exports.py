"""What annotation tools export and nothing reads is named, with the way out."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tasks.contract import BadInput
from tasks.data.sources import open_source
from tasks.spec import Source

VOC = "<annotation><filename>1.jpg</filename><object><name>cat</name></object></annotation>"
SHAPES = {"version": "5.0.1", "shapes": [{"label": "cat"}], "imagePath": "1.jpg"}
TASKS = [{"id": 1, "data": {"image": "/data/upload/1.jpg"}, "annotations": [{"result": []}]}]
EXPORTS: dict[str, dict[str, str]] = {
    "Pascal VOC": {"JPEGImages/1.jpg": "x", "Annotations/1.xml": VOC},
    "YOLO": {"images/1.jpg": "x", "labels/1.txt": "0 0.5 0.5 0.1 0.2\n", "data.yaml": "nc: 1\n"},
    "LabelMe": {"1.jpg": "x", "1.json": json.dumps(SHAPES)},
}
KINDS: dict[str, dict[str, Any]] = {
    "csv_images": {},
    "coco": {"annotations": "instances.json"},
    "cloud_annotations": {},
}


def _open(root: Path, **fields: Any) -> None:
    spec = TypeAdapter(Source).validate_python({"uri": str(root), **fields})
    open_source(spec).open(root.parent / "scratch")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tool", EXPORTS)
def test_the_export_of_another_tool_is_recognised(tmp_path: Path, tool: str, kind: str) -> None:
    root = tmp_path / "export"
    for name, content in EXPORTS[tool].items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    with pytest.raises(
        BadInput, match=rf"it looks like {tool} \(.*, which no kind reads: export C"
    ):
        _open(root, kind=kind, **KINDS[kind])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (TASKS, "holds a list where an object is expected; it looks like Label Studio's own JSON"),
        ([{"image": "1.jpg", "annotation_id": 1}], "it looks like Label Studio's JSON-MIN"),
        (SHAPES, "it looks like LabelMe"),
        ({"_via_img_metadata": {}}, "it looks like VGG Image Annotator's project"),
        ([1, 2], "holds a list where an object is expected$"),
    ],
)
@pytest.mark.parametrize("kind", ["coco", "cloud_annotations"])
def test_a_file_of_another_format_is_recognised(
    tmp_path: Path, document: Any, message: str, kind: str
) -> None:
    root = tmp_path / "export"
    (root / "images").mkdir(parents=True)
    (root / "result.json").write_text(json.dumps(document))
    with pytest.raises(BadInput, match=message):
        _open(root, kind=kind, annotations="result.json")


def test_an_ordinary_folder_is_taken_for_nothing(tmp_path: Path) -> None:
    root = tmp_path / "films"
    (root / "images").mkdir(parents=True)
    (root / "notes.txt").write_text("0 and 1 are the classes")
    (root / "page.xml").write_text("<page/>")
    with pytest.raises(BadInput, match=r"holds no table .*it holds images/, notes.txt, page.xml$"):
        _open(root, kind="csv_images")
