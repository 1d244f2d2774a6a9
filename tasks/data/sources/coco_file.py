"""Reads COCO's annotation format (https://cocodataset.org/#format-data): images, categories and
object boxes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.contract import BadInput
from tasks.data.boxes import Box, PixelBox, clipped
from tasks.data.sources.annotation_file import as_number, expect, number, read_json
from tasks.data.sources.ids import Ids
from tasks.data.sources.labels import LabelledBox

MAX_FIELDS = 500
"""Different fields that the images of a file may have in all."""

_Size = tuple[float, float]

_OWN_FIELDS = ("id", "file_name", "width", "height")


@dataclass
class CocoImage:
    """One image of a file.

    Attributes
    ----------
    name : str
        ``file_name``, as the file gives it.
    fields : dict of str to str or None
        Its single values, those under ``metadata`` too.
    labels : list of str
        Category of each annotation, in the order of the file.
    boxes : list of (str, Box)
        Category and box of each annotation that has one.
    """

    name: str
    fields: dict[str, str | None] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    boxes: list[LabelledBox] = field(default_factory=list)


def read_coco(path: Path) -> tuple[list[CocoImage], list[str]]:
    """Read a file.

    Parameters
    ----------
    path : Path
        The annotation file. Outlines (``segmentation``) are not read.

    Returns
    -------
    images : list of CocoImage
        In the order of the file.
    warnings : list of str
        For the report.

    Raises
    ------
    BadInput
        The file is not of that format; names the place.
    """
    document = read_json(path, without=("segmentation", "counts"))
    parts = {key: _entries(document, key, path) for key in ("images", "categories", "annotations")}
    categories = Ids[str]()
    for place, entry in parts["categories"]:
        key, label = _id(entry, "id", place), expect(entry.get("name"), str, f"{place}.name")
        earlier = categories.get(key)
        if earlier not in (None, label):
            raise BadInput(
                f"{place}.id: {key!r} is the id of {str(earlier)[:60]!r} and of {label[:60]!r}; "
                "give each category an id of its own"
            )
        categories.add(key, label)
    images = Ids[CocoImage]()
    sizes: dict[str, _Size | None] = {}
    unsized: list[str] = []
    for place, entry in parts["images"]:
        key = _id(entry, "id", place)
        if images.get(key) is not None:
            raise BadInput(f"{place}.id: {key!r} is the id of an earlier image, too")
        name = expect(entry.get("file_name"), str, f"{place}.file_name")
        images.add(key, CocoImage(name, _fields(entry)))
        size = sizes[images.key(key)] = _size(entry)
        given = [entry.get("width"), entry.get("height")]
        if size is None and any(value is not None for value in given):
            unsized.append(f"{str(given[0])[:20]!r} x {str(given[1])[:20]!r} of {name[:120]!r}")
    strays = empty = boxless = 0
    for place, entry in parts["annotations"]:
        key = _id(entry, "image_id", place)
        image = images.find(key)
        if image is None:
            strays += 1
            continue
        category = _id(entry, "category_id", place)
        found = categories.find(category)
        if found is None:
            raise BadInput(
                f"{place}.category_id: there is no category {category!r}; there are "
                f"{categories.examples()}"
            )
        image.labels.append(found)
        if _has_box(entry.get("bbox")):
            box = _box(entry["bbox"], sizes[images.key(key)], place)
            if box is None:
                empty += 1
            else:
                image.boxes.append((found, box))
        else:
            boxless += 1
    if strays and strays == len(parts["annotations"]):
        first = parts["annotations"][0][1].get("image_id")
        raise BadInput(
            f"{path.name}: none of {strays} annotations belongs to an image of the file: they name "
            f"images such as {first!r}, the images' ids are {images.examples()}"
        )
    warnings = [
        f"{path.name}: {ids.otherwise} times {field} is another kind of value than the id "
        f"that it means, such as {ids.example}"
        for ids, field in ((images, "image_id"), (categories, "category_id"))
        if ids.otherwise
    ]
    if unsized:
        warnings.append(
            f"{path.name}: {len(unsized)} images have a size that is none, such as {unsized[0]}: "
            "their boxes are taken to be in pixels of the image that is here"
        )
    if strays:
        warnings.append(f"{path.name}: {strays} annotations belong to no image of the file")
    if boxless:
        warnings.append(f"{path.name}: {boxless} annotations have no box")
    if empty:
        warnings.append(f"{path.name}: {empty} boxes are empty or outside of their image")
    return images.values(), warnings


def field_names(images: list[CocoImage], path: Path) -> list[str]:
    """Return the names of all fields of all images, in the order of their appearance.

    Raises
    ------
    BadInput
        There are more than :data:`MAX_FIELDS`.
    """
    names = list(dict.fromkeys(name for image in images for name in image.fields))
    if len(names) > MAX_FIELDS:
        raise BadInput(
            f"{path.name}: its images have {len(names)} different fields; {MAX_FIELDS} are allowed"
        )
    return names


def _entries(document: dict[str, Any], key: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    found = expect(document.get(key), list, f"{path.name}: {key}")
    return [
        (place, expect(entry, dict, place))
        for place, entry in ((f"{path.name}: {key}[{n}]", e) for n, e in enumerate(found))
    ]


def _id(entry: dict[str, Any], key: str, place: str) -> int | str:
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise BadInput(f"{place}.{key}: {str(value)[:60]!r} is no id")
    return value


def _fields(entry: Mapping[str, Any]) -> dict[str, str | None]:
    found = {k: _text(v) for k, v in entry.items() if k not in _OWN_FIELDS and _single(v)}
    inner = entry.get("metadata")
    for name, value in (inner if isinstance(inner, dict) else {}).items():
        if _single(value):
            found[f"metadata_{name}" if name in found else name] = _text(value)
    return found


def _single(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    text = "" if value is None else str(value)
    return text if text.strip() else None


def _has_box(value: Any) -> bool:
    """Tell a box from none, which some tools write as a list of nulls."""
    return any(each is not None for each in value) if isinstance(value, list) else value is not None


def _size(entry: dict[str, Any]) -> _Size | None:
    """Return width and height, which many tools leave blank, or write as text, or as 0."""
    width, height = as_number(entry.get("width")), as_number(entry.get("height"))
    return (width, height) if width and height and width > 0 and height > 0 else None


def _box(value: Any, size: _Size | None, place: str) -> Box | PixelBox | None:
    corners = expect(value, list, f"{place}.bbox")
    if len(corners) != 4:
        raise BadInput(f"{place}.bbox: has {len(corners)} numbers, not x, y, width and height")
    x, y, w, h = (number(each, f"{place}.bbox") for each in corners)
    if not w * h > 0:
        return None
    if size is None:
        # the image itself will say how large it is
        return PixelBox(x, y, x + w, y + h)
    # the annotator's image may have been larger than the one that is here: fractions fit both
    width, height = size
    return clipped(x / width, y / height, (x + w) / width, (y + h) / height)
