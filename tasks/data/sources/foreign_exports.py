"""Recognises what annotation tools export and no kind of source reads, to name it in a message."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_WAY_OUT = "export COCO from the tool and read it with source.kind coco, or write a reader (custom)"

_MOST_FILES = 2_000
"""Files that are looked at for a message."""
_START = 4096


def recognised(root: Path) -> str:
    """Return what a folder seems to be an export of, as the end of a message; empty if nothing.

    Parameters
    ----------
    root : Path
        The source. Its first files are looked at.
    """
    files = list(islice(_files(root), _MOST_FILES))
    by_ending = Counter(path.suffix.lower() for path in files)
    found = ""
    if by_ending[".xml"] and _any(files, ".xml", b"<annotation"):
        found = "Pascal VOC (XML files)"
    elif by_ending[".txt"] and _is_yolo(files):
        found = "YOLO (text files of boxes)"
    elif by_ending[".json"] and _any(files, ".json", b'"shapes"'):
        found = "LabelMe (a JSON file an image)"
    elif by_ending[".json"] and _any(files, ".json", b'"completed_by"', b'"annotation_id"'):
        found = "Label Studio's own JSON"
    return f"; it looks like {found}, which no kind reads: {_WAY_OUT}" if found else ""


def of_list(document: object) -> str:
    """Return the same for a JSON file that holds a list where an object is expected."""
    if not isinstance(document, list) or not document or not isinstance(document[0], dict):
        return ""
    keys = document[0].keys()
    if "data" in keys and keys & {"annotations", "predictions", "completions"}:
        return f"; it looks like Label Studio's own JSON, which no kind reads: {_WAY_OUT}"
    if "annotation_id" in keys or "annotator" in keys:
        return f"; it looks like Label Studio's JSON-MIN, which no kind reads: {_WAY_OUT}"
    return ""


def of_object(document: dict[str, object]) -> str:
    """Return the same for a JSON object that is of another tool's format."""
    if "shapes" in document and "imagePath" in document:
        return f"; it looks like LabelMe (a JSON file an image), which no kind reads: {_WAY_OUT}"
    if "_via_img_metadata" in document:
        return f"; it looks like VGG Image Annotator's project, which no kind reads: {_WAY_OUT}"
    return ""


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _any(files: list[Path], ending: str, *words: bytes) -> bool:
    """Return whether one of the first files of an ending holds one of the words."""
    return any(
        word in start
        for path in islice((f for f in files if f.suffix.lower() == ending), 5)
        for start in (_start(path),)
        for word in words
    )


def _is_yolo(files: list[Path]) -> bool:
    names = {path.name.lower() for path in files}
    texts = [path for path in files if path.suffix.lower() == ".txt" and path.stat().st_size]
    boxes = [path for path in texts if path.name.lower() not in ("classes.txt", "readme.txt")]
    known = (
        "data.yaml" in names
        or "classes.txt" in names
        or any(p.parent.name == "labels" for p in boxes)
    )
    return known and any(_is_box(_start(path)) for path in boxes[:5])


def _is_box(start: bytes) -> bool:
    words = start.splitlines()[0].split() if start.splitlines() else []
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return False
    return len(numbers) >= 5 and numbers[0].is_integer() and all(0 <= n <= 1.5 for n in numbers[1:])


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_START)
