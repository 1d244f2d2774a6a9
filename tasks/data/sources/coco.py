"""Images with a COCO file beside them."""

from collections.abc import Iterator
from pathlib import Path

from tasks.contract import BadInput
from tasks.data.fetch import fetch, source_state
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.coco_file import CocoImage, field_names, read_coco
from tasks.data.sources.foreign_exports import recognised
from tasks.data.sources.labels import LabelRule, check_region_labels, relevant
from tasks.spec.annotations import Coco

OWN_COLUMNS = ("filename", "label", "labels", "boxes")
"""Columns before those of the images' own fields."""


class CocoReader(SourceReader):
    """One row an image of the file: its label, all its labels, its boxes, its own fields."""

    kind = "coco"

    def __init__(self, spec: Coco) -> None:
        self.spec = spec
        self.max_quarantined = spec.max_quarantined
        self.max_missing = spec.max_missing

    def state(self) -> str:
        return source_state(self.spec.uri, [self.spec.annotations, self.spec.images])

    def open(self, scratch: Path) -> Contents:
        root = fetch(self.spec.uri, scratch, parts=[self.spec.annotations, self.spec.images])
        path, folder = root / self.spec.annotations, root / self.spec.images
        if not path.is_file():
            raise BadInput(
                f"{self.spec.uri}: holds no file {self.spec.annotations!r} (source.annotations)"
                f"{recognised(root)}"
            )
        if not folder.is_dir():
            raise BadInput(
                f"{self.spec.uri}: holds no folder {self.spec.images!r} (source.images); "
                "'.' is the source itself"
            )
        images, warnings = read_coco(path)
        check_region_labels(
            self.spec.region_labels, (box for image in images for box in image.boxes)
        )
        rule = LabelRule(self.spec)
        chosen = [rule.choose(image.name, image.labels) for image in images]
        fields = field_names(images, path)
        columns = [f"source_{name}" if name in OWN_COLUMNS else name for name in fields]
        return Contents(
            columns=[*OWN_COLUMNS, *columns],
            rows=self._rows(images, chosen, fields),
            images=folder,
            warnings=[*warnings, *rule.finish()],
        )

    def _rows(
        self, images: list[CocoImage], chosen: list[str | None], fields: list[str]
    ) -> Iterator[SourceRow]:
        for image, label in zip(images, chosen, strict=True):
            labels = "|".join(dict.fromkeys(image.labels)) or None
            yield SourceRow(
                values=[
                    *(image.name, label, labels, str(len(image.boxes))),
                    *(image.fields.get(name) for name in fields),
                ],
                image=image.name or None,
                boxes=relevant(image.boxes, label, self.spec.region_labels),
            )
