"""Reads ``_annotations.json``, in every form in which Cloud Annotations has written it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.contract import BadInput
from tasks.data.boxes import Box, clipped
from tasks.data.sources.annotation_file import expect, number, read_json
from tasks.data.sources.labels import LabelledBox

CORNERS = ("x", "y", "x2", "y2")


@dataclass
class AnnotatedImage:
    """An image that the file names, its labels and boxes in the order of the file."""

    name: str
    labels: list[str] = field(default_factory=list)
    boxes: list[LabelledBox] = field(default_factory=list)


def read_cloud_annotations(path: Path) -> tuple[list[AnnotatedImage], list[str]]:
    """Read ``_annotations.json``.

    Parameters
    ----------
    path : Path
        Version 1.0: an object with ``type`` (``classification`` or ``localization``), ``labels``
        (the names in use) and ``annotations``: image name to a list of objects with ``label`` and,
        for a box, ``x``, ``y``, ``x2``, ``y2``, fractions of width and height. Version 2:
        ``labels``, ``annotations`` and ``images`` are objects by id, an image lists the ids of its
        annotations, and an annotation has ``label`` (an id) and ``targets``, points of its corners.

    Returns
    -------
    images : list
        Name, labels and boxes of each image, in the order of the file.
    warnings : list of str
        For the report.

    Raises
    ------
    BadInput
        The file is not of that format; names image and field.
    """
    document = read_json(path)
    if isinstance(document.get("images"), dict):
        return _version_2(document, path)
    kind = document.get("type") or "classification"
    if kind not in ("classification", "localization"):
        raise BadInput(
            f"{path.name}: type {str(kind)[:60]!r} is neither 'classification' nor 'localization'"
        )
    declared = _declared(document.get("labels"), f"{path.name}: labels")
    entries = expect(document.get("annotations"), dict, f"{path.name}: annotations")
    images, used, empty = [], set[str](), 0
    for name, annotations in entries.items():
        image = AnnotatedImage(name)
        place = f"{path.name}: annotations[{name[:120]!r}]"
        for index, entry in enumerate(expect(annotations, list, place)):
            here = f"{place}[{index}]"
            label = _label(expect(entry, dict, here), here)
            used.add(label)
            image.labels.append(label)
            if any(entry.get(corner) is not None for corner in CORNERS):
                box = _box([entry.get(corner) for corner in CORNERS], here)
                empty += box is None
                image.boxes += [(label, box)] if box else []
        images.append(image)
    strange = used - set(declared.values()) if declared else set()
    return images, _warnings(path, strange, empty, 0)


def _version_2(document: dict[str, Any], path: Path) -> tuple[list[AnnotatedImage], list[str]]:
    names = _declared(document.get("labels"), f"{path.name}: labels")
    drawn = expect(document.get("annotations") or {}, dict, f"{path.name}: annotations")
    images, strange, empty, strays = [], set[str](), 0, 0
    for name, entry in document["images"].items():
        image = AnnotatedImage(name)
        place = f"{path.name}: images[{name[:120]!r}]"
        for key in _entries(expect(entry, dict, place).get("annotations"), f"{place}.annotations"):
            here = f"{path.name}: annotations[{str(key)[:120]!r}]"
            annotation = drawn.get(str(key))
            if annotation is None:
                strays += 1
                continue
            given = _label(expect(annotation, dict, here), here)
            label = names.get(given, given)
            strange |= {given} - names.keys() - set(names.values()) if names else set()
            image.labels.append(label)
            points = [
                expect(point, dict, f"{here}.targets")
                for point in _entries(annotation.get("targets"), f"{here}.targets")
            ]
            if len(points) > 1:
                box = _box_around(points, f"{here}.targets")
                empty += box is None
                image.boxes += [(label, box)] if box else []
        images.append(image)
    return images, _warnings(path, strange, empty, strays)


def _declared(labels: Any, place: str) -> dict[str, str]:
    """Return the names of the labels by id; a list of names has them for ids."""
    if isinstance(labels, dict):
        found = {}
        for key, entry in labels.items():
            name = entry.get("name", key) if isinstance(entry, dict) else entry or key
            found[key] = expect(name, str, f"{place}[{key[:60]!r}]").strip()
        return found
    listed = [
        entry.get("name") if isinstance(entry, dict) else entry
        for entry in expect(labels or [], list, place)
    ]
    return {name: name for name in (expect(each, str, place) for each in listed)}


def _entries(value: Any, place: str) -> list[Any]:
    """Return a list, of which an object by number or nothing at all is another form."""
    return list(value.values()) if isinstance(value, dict) else expect(value or [], list, place)


def _label(entry: dict[str, Any], place: str) -> str:
    label: str = expect(entry.get("label"), str, f"{place}.label").strip()
    if not label:
        raise BadInput(f"{place}.label: is blank; label the image or remove the entry")
    return label


def _box(corners: list[Any], place: str) -> Box | None:
    left, top, right, bottom = (
        number(value, f"{place}.{name}") for value, name in zip(corners, CORNERS, strict=True)
    )
    if max(abs(value) for value in (left, top, right, bottom)) > 2:
        raise BadInput(
            f"{place}: box {[left, top, right, bottom]} is in pixels; Cloud Annotations gives "
            "fractions of width and height"
        )
    return clipped(left, top, right, bottom)


def _box_around(points: list[dict[str, Any]], place: str) -> Box | None:
    across = [number(point.get("x"), f"{place}.x") for point in points]
    down = [number(point.get("y"), f"{place}.y") for point in points]
    return _box([min(across), min(down), max(across), max(down)], place)


def _warnings(path: Path, strange: set[str], empty: int, strays: int) -> list[str]:
    warnings = []
    if strange:
        named = ", ".join(sorted(strange)[:5])
        warnings.append(f"{path.name}: uses labels that its own list lacks: {named}")
    if empty:
        warnings.append(f"{path.name}: {empty} boxes are empty or outside of their image")
    if strays:
        warnings.append(f"{path.name}: {strays} annotations that images name are not in the file")
    return warnings
