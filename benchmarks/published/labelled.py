"""A folder as Cloud Annotations leaves a bucket, made from the chest films."""

import csv
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

COVID = "Pneumonia/Viral/COVID-19"


def label_films(films: Path, folder: Path) -> Path:
    """Copy one film of each patient into a folder and label it; return the folder.

    One each, because such a bucket knows no patients, and films of one would lie on both sides of
    the split. Lungs that were boxed by hand are boxes of the film's label.

    Parameters
    ----------
    films : Path
        The data set of Cohen et al.: ``metadata.csv``, ``images``, ``annotations``.
    folder : Path
        Made anew.
    """
    boxes = _boxes(films / "annotations/imageannotation_ai_lung_bounding_boxes.json")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    annotations: dict[str, list[dict[str, Any]]] = {}
    patients = set()
    with (films / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        # boxed films first, so that a patient who has one is seen by it
        rows = sorted(csv.DictReader(stream), key=lambda row: row["filename"] not in boxes)
    for row in rows:
        name, image = row["filename"], films / "images" / row["filename"]
        usable = row["modality"] == "X-ray" and row["finding"] != "todo" and image.is_file()
        if not usable or row["patientid"] in patients:
            continue
        patients.add(row["patientid"])
        shutil.copyfile(image, folder / name)
        label = {"label": "COVID-19" if row["finding"] == COVID else "other"}
        annotations[name] = [label | corners for corners in boxes.get(name, [{}])]
    document = {
        "version": "1.0",
        "type": "localization",
        "labels": ["COVID-19", "other"],
        "annotations": dict(sorted(annotations.items())),
    }
    (folder / "_annotations.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def _boxes(path: Path) -> dict[str, list[dict[str, float]]]:
    """Return file name to boxes, their corners as fractions of width and height."""
    document = json.loads(path.read_text(encoding="utf-8"))
    images = {image["id"]: image for image in document["images"]}
    found = defaultdict(list)
    for annotation in document["annotations"]:
        image, box = images[annotation["image_id"]], annotation["bbox"]
        if any(side is None for side in box):
            continue
        left, top, width, height = box
        found[image["file_name"]].append(
            {
                "x": left / image["width"],
                "y": top / image["height"],
                "x2": (left + width) / image["width"],
                "y2": (top + height) / image["height"],
            }
        )
    return dict(found)
