"""A table of metadata beside a folder of images."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tasks.contract import BadInput
from tasks.data.boxes import Box, PixelBox
from tasks.data.fetch import fetch, source_state
from tasks.data.file_index import spelling, stem
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.coco_file import read_coco
from tasks.data.sources.csv_table import CsvTable, listing
from tasks.data.sources.foreign_exports import recognised
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
                f"{self.spec.uri}: holds no folder {self.spec.images!r} (source.images; "
                f"'.' is the source itself); it holds {listing(root)}{recognised(root)}"
            )
        metadata = _table(table, self.spec)
        regions = root / _fixed_folder(self.spec.regions) if self.spec.regions else None
        boxes, warnings = self._boxes(root)
        warnings = [*metadata.warnings, *warnings]
        return Contents(
            columns=metadata.columns,
            rows=self._rows(metadata, boxes, warnings),
            images=images,
            regions=regions,
            warnings=warnings,
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

    def _boxes(self, root: Path) -> tuple["_BoxesByName", list[str]]:
        """Return the boxes of the relevant region by image name, and what is to be said of them."""
        if self.spec.region_boxes is None:
            return _BoxesByName({}), []
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
        found = {image.name: relevant(image.boxes, None, wanted) for image in images}
        return _BoxesByName(found), warnings

    def _rows(
        self, table: CsvTable, boxes: "_BoxesByName", warnings: list[str]
    ) -> Iterator[SourceRow]:
        position = table.columns.index(self.spec.filename_column)
        for values in table.rows():
            name = values[position]
            yield SourceRow(values=values, image=name, boxes=boxes.of(name))
        unused = boxes.unused()
        if unused:
            warnings.append(
                f"{self.spec.region_boxes}: {len(unused)} of {boxes.images} images with boxes are "
                f"in no row, such as {', '.join(unused[:5])}"
            )

    def _region(self, name: str) -> str | None:
        if self.spec.regions is None:
            return None
        pattern = self.spec.regions[len(_fixed_folder(self.spec.regions)) :].lstrip("/")
        stem = PurePosixPath(name).with_suffix("").as_posix() if PurePosixPath(name).name else name
        return pattern.replace("{filename}", name).replace("{stem}", stem)


class _BoxesByName:
    """Boxes of images, whose names another tool spells otherwise than the table does."""

    def __init__(self, boxes: dict[str, tuple[Box | PixelBox, ...]]) -> None:
        self._boxes = {name: found for name, found in boxes.items() if found}
        self._by_stem: dict[str, list[str]] = {}
        self._used: set[str] = set()
        for name in self._boxes:
            for last in spelling(name)[-1:]:
                self._by_stem.setdefault(stem(last), []).append(name)

    @property
    def images(self) -> int:
        return len(self._boxes)

    def of(self, name: str | None) -> tuple[Box | PixelBox, ...]:
        if name is None or not self._boxes:
            return ()
        found = [name] if name in self._boxes else self._alike(spelling(name))
        self._used.update(found[:1] if len(found) == 1 else [])
        return self._boxes[found[0]] if len(found) == 1 else ()

    def unused(self) -> list[str]:
        return [name for name in self._boxes if name not in self._used]

    def _alike(self, parts: tuple[str, ...]) -> list[str]:
        """Name the images of which either name ends in the other, but for case and ending."""
        if not parts:
            return []
        candidates = [*self._by_stem.get(stem(parts[-1]), ()), *self._by_stem.get(parts[-1], ())]
        found = []
        for candidate in dict.fromkeys(candidates):
            other = spelling(candidate)
            if stem(other[-1]) == parts[-1]:
                other = (*other[:-1], parts[-1])
            length = min(len(parts), len(other))
            if parts[-length:] == other[-length:]:
                found.append(candidate)
        return found


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
            f"it holds {listing(table.parent)}{recognised(table.parent)}"
        )
    return CsvTable(
        table,
        required=spec.filename_column,
        asked_by="source.filename_column",
        encoding=spec.encoding,
    )
