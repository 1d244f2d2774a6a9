"""Rows of a database, and the images that they name."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from tasks.contract import BadInput, NoInput
from tasks.data.database import as_text, select
from tasks.data.download import download
from tasks.data.fetch import is_remote, local_path
from tasks.data.names import is_plain_path
from tasks.data.objects import PARALLEL_OBJECTS, fetch_objects, is_object_store, listing_digest
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.spelled_names import SpelledNames
from tasks.spec.database import Sql

log = logging.getLogger("tasks")

_FIELD = "source.images"
_Row = tuple[list[str | None], str | None]


class SqlReader(SourceReader):
    """One row a row of the query, one image a row, which must lie below ``source.images``."""

    kind = "sql"

    def __init__(self, spec: Sql) -> None:
        self.spec = spec
        self.max_quarantined = spec.max_quarantined
        self.max_missing = spec.max_missing
        self._root = spec.images.rstrip("/") if "://" in spec.images else spec.images

    def state(self) -> str:
        if self.spec.version_query is not None:
            with select(self.spec, self.spec.version_query) as (_, chunks):
                return json.dumps([[str(v) for v in row] for chunk in chunks for row in chunk])
        total, names = 0, []
        with select(self.spec, self.spec.query) as (columns, chunks):
            for values, name in self._rows(columns, chunks):
                digest = hashlib.sha256(json.dumps([columns, values]).encode()).digest()
                # a sum: equal rows in another order are the same rows
                total += int.from_bytes(digest)
                if name is not None and (self._is_folder or is_plain_path(name)):
                    names.append(name)
        return f"{total % 2**256:x} {self._image_state(names)}"

    def open(self, scratch: Path) -> Contents:
        scratch.mkdir(parents=True, exist_ok=True)
        # rows are kept here first: fetching images takes long, and a database is not kept waiting
        spool = scratch / "rows.jsonl"
        names: dict[str, None] = {}
        with (
            select(self.spec, self.spec.query) as (columns, chunks),
            spool.open("w", encoding="utf-8") as stream,
        ):
            for values, name in self._rows(columns, chunks):
                stream.write(json.dumps([values, name]) + "\n")
                if name is not None and is_plain_path(name):
                    names[name] = None
        return Contents(
            columns=columns,
            rows=_spooled(spool),
            images=self._images(list(names), scratch / "objects"),
            complete=self._is_folder,
        )

    def _rows(self, columns: list[str], chunks: Iterator[object]) -> Iterator[_Row]:
        twice = [name for name in columns if columns.count(name) > 1]
        if twice:
            raise BadInput(f"source.query: gives column {twice[0]!r} more than once; use AS")
        if self.spec.image_column not in columns:
            raise BadInput(
                f"source.query: gives no column {self.spec.image_column!r} (source.image_column); "
                f"its columns are {', '.join(columns[:40])}"
            )
        position = columns.index(self.spec.image_column)
        for chunk in chunks:
            for row in chunk:  # type: ignore[attr-defined]
                values = [as_text(v, name) for v, name in zip(row, columns, strict=True)]
                yield values, self._below_root(values[position])

    def _below_root(self, address: str | None) -> str | None:
        """Return the path of an image below ``source.images``; whatever is not stays as it is, no
        plain path, and is refused when it is taken in."""
        if address is None:
            return None
        if is_remote(self._root):
            name = address.removeprefix(f"{self._root}/")
            # a server undoes the encoding, and then goes where the name leads
            plain = is_plain_path(unquote(name)) and not set("?#\\") & set(unquote(name))
            return name if plain else f"{self._root}/{name}"
        if is_object_store(self._root):
            return address.removeprefix(f"{self._root}/")
        path = unquote(address.removeprefix("file://")) if address[:7] == "file://" else address
        return path.removeprefix(f"{str(self._folder).rstrip('/')}/")

    @property
    def _is_folder(self) -> bool:
        return not is_remote(self._root) and not is_object_store(self._root)

    @cached_property
    def _folder(self) -> Path:
        folder = local_path(self._root, _FIELD)
        if not folder.is_dir():
            raise BadInput(f"{_FIELD} {self._root!r}: is no folder")
        return folder

    def _image_state(self, names: list[str]) -> str:
        if is_remote(self._root):
            # asking for each would take as long as fetching it
            return ""
        if is_object_store(self._root):
            return listing_digest(self._root, names, field=_FIELD) if names else ""
        digest = hashlib.sha256()
        for name, found in sorted(SpelledNames(self._folder).files(names).items()):
            status = os.stat(self._folder / found)
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _images(self, names: list[str], target: Path) -> Path:
        if self._is_folder:
            return self._folder
        target.mkdir(parents=True, exist_ok=True)
        if names and is_object_store(self._root):
            fetch_objects(self._root, names, target, field=_FIELD)
        elif names:
            with ThreadPoolExecutor(PARALLEL_OBJECTS) as pool:
                absent = list(pool.map(lambda name: self._absent(name, target), names))
            if all(absent):
                raise NoInput(f"{_FIELD} {self._root!r}: has none of {len(names)} images")
        return target

    def _absent(self, name: str, target: Path) -> bool:
        try:
            download(f"{self._root}/{name}", target / name)
        except NoInput as error:
            log.warning("%s", error)
            return True
        return False


def _spooled(spool: Path) -> Iterator[SourceRow]:
    with spool.open(encoding="utf-8") as stream:
        for line in stream:
            values, name = json.loads(line)
            yield SourceRow(values=values, image=name)
