"""FairFace: tables of age, gender and race beside the images that they name."""

from collections.abc import Iterator
from pathlib import Path

from tasks.contract import BadInput
from tasks.data.fetch import fetch, source_state
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.csv_table import CsvTable, listing
from tasks.spec.sources import FairFace

_FILE = "file"
_FOLDERS = ("train", "val")


class FairFaceReader(SourceReader):
    """``fairface_label_train.csv`` and ``fairface_label_val.csv``, or one of them."""

    kind = "fairface"

    def __init__(self, spec: FairFace) -> None:
        self.spec = spec
        self.max_quarantined = spec.max_quarantined
        self.max_missing = spec.max_missing
        # the validation images are what others test on
        self._tables = {"train": spec.train_labels, "test": spec.val_labels}

    def state(self) -> str:
        return source_state(self.spec.uri, self._parts())

    def open(self, scratch: Path) -> Contents:
        root = self._entered(fetch(self.spec.uri, scratch, parts=self._parts()))
        tables = {side: root / name for side, name in self._tables.items()}
        found = {side: table for side, table in tables.items() if table.is_file()}
        if not found:
            raise BadInput(
                f"{self.spec.uri}: holds neither {self.spec.train_labels!r} (source.train_labels) "
                f"nor {self.spec.val_labels!r} (source.val_labels); it holds {listing(root)}"
            )
        read = {
            side: CsvTable(
                table,
                required=_FILE,
                asked_by="the images' paths",
                encoding=self.spec.encoding,
            )
            for side, table in found.items()
        }
        headers = {found[side].name: table.columns for side, table in read.items()}
        columns, *others = headers.values()
        if any(other != columns for other in others):
            described = "; ".join(f"{name}: {', '.join(names)}" for name, names in headers.items())
            raise BadInput(f"the two tables have different columns: {described[:400]}")
        if "split" in columns:
            raise BadInput(f"{next(iter(headers))}: rename column 'split', which tells the table")
        absent = [name for side, name in self._tables.items() if side not in found]
        return Contents(
            columns=[*columns, "split"],
            rows=self._rows(read),
            images=root,
            warnings=[
                *(f"the source holds no {name}; the other table is read" for name in absent),
                *(warning for table in read.values() for warning in table.warnings),
            ],
        )

    def _parts(self) -> list[str]:
        return [self.spec.val_labels, self.spec.train_labels, *_FOLDERS]

    def _entered(self, root: Path) -> Path:
        """Enter the folder that wraps an archive that holds the training images alone."""
        folders = [entry for entry in root.iterdir() if entry.is_dir()]
        inside = [folder for folder in folders if (folder / self.spec.train_labels).is_file()]
        held = any((root / name).is_file() for name in self._tables.values())
        return inside[0] if len(inside) == 1 and not held else root

    def _rows(self, tables: dict[str, CsvTable]) -> Iterator[SourceRow]:
        for side, table in tables.items():
            position = table.columns.index(_FILE)
            for values in table.rows():
                yield SourceRow(values=[*values, side], image=values[position])
