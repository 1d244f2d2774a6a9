"""A table of metadata beside a folder of images."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tasks.contract import BadInput
from tasks.data.boxes import Box, PixelBox
from tasks.data.fetch import fetch, source_state
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.coco_file import read_coco
from tasks.data.sources.csv_table import CsvTable, listing
from tasks.data.sources.labels import check_region_labels, relevant
from tasks.spec.sources import CsvImages


class CsvImagesReader(SourceReader):
    """``metadata.csv`` and ``images/``, as CLAIMED's pipeline reads them; masks may be beside."""

    kind = "csv_images"

    def __init__(self, spec: CsvImages) -> None:
        self.spec = spec
        self.max_quarantined = spec.max_quarantined
        self.max_missing = spec.max_missing

    def state(self) -> str:
        return source_state(self.spec.uri, self._parts())

    def open(self, scratch: Path) -> Contents:
        root = fetch(self.spec.uri, scratch, parts=self._parts())
        table = root / self.spec.metadata
        images = root / self.spec.images
        if not images.is_dir():
            raise BadInput(
                f"{self.spec.uri}: holds no folder {self.spec.images!r} (source.images); "
                f"it holds {listing(root)}"
            )
        metadata = _table(table, self.spec)
        regions = root / _fixed_folder(self.spec.regions) if self.spec.regions else None
        boxes, warnings = self._boxes(root)
        return Contents(
            columns=metadata.columns,
            rows=self._rows(metadata, boxes),
            images=images,
            regions=regions,
            warnings=[*metadata.warnings, *warnings],
            region_of=self._region,
            root=root,
        )

    def _parts(self) -> list[str]:
        parts = [self.spec.metadata, self.spec.images]
        if self.spec.regions:
            parts.append(_fixed_folder(self.spec.regions))
        if self.spec.region_boxes:
            parts.append(self.spec.region_boxes)
        return parts

    def _boxes(self, root: Path) -> tuple[dict[str, tuple[Box | PixelBox, ...]], list[str]]:
        """Return the boxes of the relevant region by image name, and what is to be said of them."""
        if self.spec.region_boxes is None:
            return {}, []
        path = root / self.spec.region_boxes
        if not path.is_file():
            raise BadInput(
                f"{self.spec.uri}: holds no file {self.spec.region_boxes!r} (source.region_boxes)"
            )
        images, warnings = read_coco(path)
        labelled = [box for image in images for box in image.boxes]
        wanted = self.spec.region_labels
        check_region_labels(wanted, labelled)
        wanted = list({label for label, _ in labelled}) if wanted is None else wanted
        return {image.name: relevant(image.boxes, None, wanted) for image in images}, warnings

    def _rows(
        self, table: CsvTable, boxes: dict[str, tuple[Box | PixelBox, ...]]
    ) -> Iterator[SourceRow]:
        position = table.columns.index(self.spec.filename_column)
        for values in table.rows():
            name = values[position]
            yield SourceRow(values=values, image=name, boxes=boxes.get(name or "", ()))

    def _region(self, name: str) -> str | None:
        if self.spec.regions is None:
            return None
        pattern = self.spec.regions[len(_fixed_folder(self.spec.regions)) :].lstrip("/")
        stem = PurePosixPath(name).with_suffix("").as_posix() if PurePosixPath(name).name else name
        return pattern.replace("{filename}", name).replace("{stem}", stem)


def _fixed_folder(pattern: str) -> str:
    """Return the leading folders of a pattern that hold no placeholder."""
    fixed = []
    for part in pattern.split("/")[:-1]:
        if "{" in part:
            break
        fixed.append(part)
    return "/".join(fixed)


def _table(table: Path, spec: CsvImages) -> CsvTable:
    if not table.is_file():
        raise BadInput(
            f"{spec.uri}: holds no table {spec.metadata!r} (source.metadata); "
            f"it holds {listing(table.parent)}"
        )
    return CsvTable(table, required=spec.filename_column, asked_by="source.filename_column")
