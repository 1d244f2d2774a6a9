"""A bucket that was labelled with Cloud Annotations, as Elyra's first workflow reads it."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.contract import BadInput
from tasks.data.boxes import clipped
from tasks.data.fetch import fetch, is_remote, local_path, source_state
from tasks.data.names import is_plain_path
from tasks.data.objects import is_object_store, listing
from tasks.data.sources.annotation_file import expect, number, read_json
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.labels import LabelledBox, LabelRule, check_region_labels, relevant
from tasks.spec.annotations import CloudAnnotations

CORNERS = ("x", "y", "x2", "y2")


@dataclass
class _Image:
    name: str
    labels: list[str] = field(default_factory=list)
    boxes: list[LabelledBox] = field(default_factory=list)


class CloudAnnotationsReader(SourceReader):
    """One row an image of ``_annotations.json``: its label, all its labels, its boxes."""

    kind = "cloud_annotations"

    def __init__(self, spec: CloudAnnotations) -> None:
        self.spec = spec
        self.max_quarantined = spec.max_quarantined
        self.max_missing = spec.max_missing

    def state(self) -> str:
        uri, name = self.spec.uri, self.spec.annotations
        if self._is_archive():
            return source_state(uri, [name])
        # only what the file names is read: models and runs may lie in the same bucket
        with tempfile.TemporaryDirectory(prefix="annotations-") as folder:
            images, _ = self._annotated(fetch(uri, Path(folder), parts=[name]))
        return source_state(uri, self._parts(images))

    def open(self, scratch: Path) -> Contents:
        uri = self.spec.uri
        root = fetch(uri, scratch / "annotations", parts=[self.spec.annotations])
        images, warnings = self._annotated(root)
        if is_object_store(uri) and not self._is_archive():
            root = fetch(uri, scratch, parts=self._parts(images))
        check_region_labels(
            self.spec.region_labels, (box for image in images for box in image.boxes)
        )
        rule = LabelRule(self.spec)
        chosen = [rule.choose(image.name, image.labels) for image in images]
        return Contents(
            columns=["filename", "label", "labels", "boxes"],
            rows=self._rows(images, chosen),
            images=root / self.spec.images,
            warnings=[*warnings, *rule.finish()],
        )

    def _rows(self, images: list[_Image], chosen: list[str | None]) -> Iterator[SourceRow]:
        for image, label in zip(images, chosen, strict=True):
            labels = "|".join(dict.fromkeys(image.labels)) or None
            yield SourceRow(
                values=[image.name, label, labels, str(len(image.boxes))],
                image=image.name,
                boxes=relevant(image.boxes, label, self.spec.region_labels),
            )

    def _is_archive(self) -> bool:
        uri = self.spec.uri
        if is_object_store(uri):
            return "" in listing(uri, [self.spec.annotations])
        return is_remote(uri) or local_path(uri).is_file()

    def _parts(self, images: list[_Image]) -> list[str]:
        names = [image.name for image in images if is_plain_path(image.name)]
        prefix = f"{self.spec.images.strip('/')}/".lstrip("/")
        return [self.spec.annotations, *(f"{prefix}{name}" for name in names)]

    def _annotated(self, root: Path) -> tuple[list[_Image], list[str]]:
        path = root / self.spec.annotations
        if not path.is_file():
            raise BadInput(
                f"{self.spec.uri}: holds no file {self.spec.annotations!r} (source.annotations); "
                "is it labelled with Cloud Annotations?"
            )
        return read_cloud_annotations(path)


def read_cloud_annotations(path: Path) -> tuple[list[_Image], list[str]]:
    """Read ``_annotations.json``.

    Parameters
    ----------
    path : Path
        An object with ``type`` (``classification`` or ``localization``), ``labels`` (the names in
        use) and ``annotations``: image name to a list of objects with ``label`` and, for a box,
        ``x``, ``y``, ``x2``, ``y2``, fractions of width and height.

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
    kind = document.get("type", "classification")
    if kind not in ("classification", "localization"):
        raise BadInput(
            f"{path.name}: type {str(kind)[:60]!r} is neither 'classification' nor 'localization'"
        )
    listed = expect(document.get("labels", []), list, f"{path.name}: labels")
    declared = {expect(name, str, f"{path.name}: labels") for name in listed}
    entries = expect(document.get("annotations"), dict, f"{path.name}: annotations")
    images, strange, empty = [], set[str](), 0
    for name, annotations in entries.items():
        image = _Image(name)
        place = f"{path.name}: annotations[{name[:120]!r}]"
        for index, entry in enumerate(expect(annotations, list, place)):
            here = f"{place}[{index}]"
            label = expect(expect(entry, dict, here).get("label"), str, f"{here}.label").strip()
            if not label:
                raise BadInput(f"{here}.label: is blank; label the image or remove the entry")
            if declared and label not in declared:
                strange.add(label)
            image.labels.append(label)
            if any(entry.get(corner) is not None for corner in CORNERS):
                box = _box(entry, here)
                empty += box is None
                image.boxes += [(label, box)] if box else []
        images.append(image)
    warnings = []
    if strange:
        named = ", ".join(sorted(strange)[:5])
        warnings.append(f"{path.name}: uses labels that its own list lacks: {named}")
    if empty:
        warnings.append(f"{path.name}: {empty} boxes are empty or outside of their image")
    return images, warnings


def _box(entry: dict[str, Any], place: str) -> Any:
    corners = [number(entry.get(corner), f"{place}.{corner}") for corner in CORNERS]
    if max(abs(value) for value in corners) > 2:
        raise BadInput(
            f"{place}: box {corners} is in pixels; Cloud Annotations gives fractions of width and "
            "height"
        )
    return clipped(*corners)
