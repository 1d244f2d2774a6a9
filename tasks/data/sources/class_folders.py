"""Images in folders that are named after their class."""

import os
from collections.abc import Iterator
from pathlib import Path

from tasks.contract import BadInput
from tasks.data.archives import MAX_DEPTH
from tasks.data.fetch import fetch, source_state
from tasks.data.names import is_text
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.spec.sources import ClassFolders

_SIDES = frozenset(
    ("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval")
)
_LEFT_BY_ARCHIVERS = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})


class ClassFoldersReader(SourceReader):
    """Every file is a row; the names of the folders above it are its columns."""

    kind = "class_folders"

    def __init__(self, spec: ClassFolders) -> None:
        self.spec = spec
        self.max_quarantined = spec.max_quarantined

    def state(self) -> str:
        return source_state(self.spec.uri, [self.spec.images])

    def open(self, scratch: Path) -> Contents:
        root = fetch(self.spec.uri, scratch, parts=[self.spec.images]) / self.spec.images
        if not root.is_dir():
            raise BadInput(f"{self.spec.uri}: holds no folder {self.spec.images!r} (source.images)")
        warnings: list[str] = []
        return Contents(
            columns=["filename", *self.spec.levels],
            rows=self._rows(root, warnings),
            images=root,
            warnings=warnings,
        )

    def _rows(self, root: Path, warnings: list[str]) -> Iterator[SourceRow]:
        left_out: list[str] = []
        sides: set[str] = set()
        for name in _files(root, left_out):
            above = name.split("/")[:-1]
            folders = above[: len(self.spec.levels)]
            sides.add(folders[-1].lower() if len(above) > len(folders) > 0 else "")
            missing = [None] * (len(self.spec.levels) - len(folders))
            yield SourceRow(values=[name, *folders, *missing], image=name)
        if left_out:
            warnings.append(
                f"{len(left_out)} hidden files and links to folders are left out, such as "
                f"{', '.join(left_out[:5])}"
            )
        if sides and sides <= _SIDES:
            warnings.append(
                f"{self.spec.levels[-1]!r} is {' or '.join(sorted(sides))} in all rows, and other "
                "folders are below: these seem to be the sides of a split and not the classes; "
                "then set source.levels to [split, label]"
            )


def _files(root: Path, left_out: list[str]) -> Iterator[str]:
    """Name the files below a folder, in the order of their names, a folder at a time in memory."""
    pending = [""]
    while pending:
        folder = pending.pop()
        if folder.count("/") > MAX_DEPTH:
            raise BadInput(f"{folder[:80]!r}... lies deeper than {MAX_DEPTH} folders")
        with os.scandir(root / folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        inner = []
        for entry in found:
            name = f"{folder}{entry.name}"
            if not is_text(name):
                raise BadInput(
                    f"{os.fsencode(name)[:200]!r}: the name of the file is not UTF-8; rename it"
                )
            if entry.name.startswith(".") or entry.name in _LEFT_BY_ARCHIVERS:
                left_out.append(name)
            elif entry.is_dir(follow_symlinks=False):
                inner.append(f"{name}/")
            elif entry.is_symlink() and entry.is_dir():
                left_out.append(name)
            else:
                yield name
        pending.extend(reversed(inner))
