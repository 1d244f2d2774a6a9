"""A Parquet table with the images in a column, or with paths of images beside it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks.contract import BadInput
from tasks.data.fetch import fetch_file_or_folder, is_remote, local_path, source_state
from tasks.data.file_kinds import kind_of_file
from tasks.data.objects import is_object_store
from tasks.data.sources.arrow_text import as_texts, is_text
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.csv_table import listing
from tasks.data.sources.embedded import EmbeddedImages
from tasks.data.sources.table_folder import (
    SUFFIX,
    TableFile,
    is_table_file,
    partition_names,
    refuse_stored_log,
    refuse_table_format,
    table_files,
)
from tasks.spec.sources import Parquet

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of a table that are decoded at a time."""
MOST_ROWS = 1_000
TABLE = "metadata.parquet"
"""``source.table`` where the pipeline file does not say."""

_STRUCT_BYTES = "bytes"

Form = Literal["bytes", "struct", "path"]


class ParquetReader(SourceReader):
    """Every row is a row; its image is written as a file, or found beside the table."""

    kind = "parquet"

    def __init__(self, spec: Parquet) -> None:
        self.spec = spec
        self.max_quarantined = spec.max_quarantined
        self.max_missing = spec.max_missing

    def state(self) -> str:
        return source_state(self.spec.uri, self._parts())

    def open(self, scratch: Path) -> Contents:
        root, single = fetch_file_or_folder(
            self.spec.uri,
            scratch,
            parts=self._parts(),
            wanted=is_table_file,
            called="a Parquet file",
        )
        table = root / single if single else self._table(root)
        refuse_table_format(table, root)
        if is_object_store(self.spec.uri):
            address = self.spec.uri.rstrip("/")
            folder = table if table.is_dir() else table.parent
            refuse_stored_log(
                address.rpartition("/")[0] if single else address,
                folder.relative_to(root).as_posix() if folder.is_relative_to(root) else "",
            )
        files = [TableFile(table, table.name)] if table.is_file() else self._files(root, table)
        first = files[0].path
        schema = _read_schema(first)
        form = self._form(first, schema)
        columns, warnings = self._columns(first, schema)
        partitions = partition_names(files, schema.names)
        images = root / self.spec.images
        if form != "path":
            images = scratch / "parquet-images"
        elif not images.is_dir():
            raise BadInput(
                f"{self.spec.uri}: column {self.spec.image_column!r} holds paths, but there is no "
                f"folder {self.spec.images!r} (source.images); it holds {listing(root)}"
            )
        return Contents(
            columns=[*columns, *partitions, "table_file"],
            rows=self._rows(files, columns, partitions, form, images),
            images=images,
            warnings=warnings,
            root=root,
        )

    def _parts(self) -> list[str]:
        table = self.spec.table
        if not is_remote(self.spec.uri) and not is_object_store(self.spec.uri):
            root = local_path(self.spec.uri)
            table = os.path.relpath(self._table(root), root) if root.is_dir() else table
        return [table, self.spec.images]

    def _table(self, root: Path) -> Path:
        """Return the table; the source itself where it is a folder of parts and has no other."""
        table = root / self.spec.table
        itself = self.spec.table == TABLE and not table.exists() and any(root.glob(f"*{SUFFIX}"))
        return root if itself else table

    def _files(self, root: Path, table: Path) -> list[TableFile]:
        if not table.is_dir():
            raise BadInput(
                f"{self.spec.uri}: holds no table {self.spec.table!r} (source.table); "
                f"it holds {listing(root)}"
            )
        files = table_files(table)
        if not files:
            raise BadInput(
                f"{self.spec.uri}: folder {self.spec.table!r} (source.table) holds no {SUFFIX} "
                f"file; it holds {listing(table)}"
            )
        return files

    def _form(self, file: Path, schema: "pa.Schema") -> Form:
        import pyarrow.types as types

        name = self.spec.image_column
        kind = schema.field(name).type if name in schema.names else None
        if kind is None:
            raise BadInput(
                f"{file.name}: has no column {name!r} (source.image_column); its columns are "
                f"{', '.join(schema.names[:40])}"
            )
        if types.is_struct(kind) and kind.get_field_index(_STRUCT_BYTES) >= 0:
            return "struct"
        if types.is_binary(kind) or types.is_large_binary(kind):
            return "bytes"
        if types.is_string(kind) or types.is_large_string(kind):
            return "path"
        raise BadInput(
            f"{file.name}: column {name!r} (source.image_column) is of type {kind}; it must hold "
            "the bytes of image files, structs of bytes and path, or paths"
        )

    def _columns(self, file: Path, schema: "pa.Schema") -> tuple[list[str], list[str]]:
        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if twice:
            raise BadInput(f"{file.name}: column {twice[0]!r} appears more than once")
        if "table_file" in schema.names:
            raise BadInput(f"{file.name}: rename column 'table_file', which tells the file")
        left_out = [
            field.name
            for field in schema
            if field.name != self.spec.image_column and not is_text(field.type)
        ]
        named = [name for name in schema.names if name not in left_out]
        if self._form(file, schema) != "path":
            named.remove(self.spec.image_column)
        warnings = [f"column {name!r} holds bytes and is left out" for name in left_out]
        return named, warnings

    def _rows(
        self,
        files: list[TableFile],
        columns: list[str],
        partitions: list[str],
        form: Form,
        folder: Path,
    ) -> Iterator[SourceRow]:
        images = None
        if form != "path":
            size = sum(file.path.stat().st_size for file in files)
            images = EmbeddedImages(folder, source_bytes=size)
        first = _read_schema(files[0].path)
        for file in files:
            schema = _read_schema(file.path)
            if not schema.equals(first):
                raise BadInput(
                    f"{file.name}: its columns are not those of {files[0].name}: "
                    f"{_difference(first, schema)}"
                )
            own = [*(file.partition[name] for name in partitions), file.name]
            for batch in _batches(file.path, [*columns, self.spec.image_column]):
                texts = [self._texts(file.path, batch, name) for name in columns]
                held = batch.column(self.spec.image_column)
                if form == "struct":
                    held = held.field(_STRUCT_BYTES)
                for number in range(batch.num_rows):
                    image = held[number].as_py()
                    if images is not None and image is not None:
                        image = images.add(image)
                    values = [column[number] for column in texts]
                    yield SourceRow(values=[*values, *own], image=image)

    def _texts(self, file: Path, batch: Any, name: str) -> list[str | None]:
        try:
            return as_texts(batch.column(name))
        except (ValueError, OverflowError) as error:
            reason = str(error)[:200]
            raise BadInput(f"{file.name}: column {name!r} is no text: {reason}") from None


def _read_schema(file: Path) -> "pa.Schema":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from None


def _batches(file: Path, columns: list[str]) -> Iterator[Any]:
    """Yield a few rows at a time, so that a row group of many images is never held as a whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(
            file, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True
        ) as table:
            size = sum(
                table.metadata.row_group(n).total_byte_size for n in range(table.num_row_groups)
            )
            rows = max(1, table.metadata.num_rows)
            batch_size = min(MOST_ROWS, max(1, BATCH_BYTES // max(1, size // rows)))
            yield from table.iter_batches(batch_size, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: BaseException) -> BadInput:
    kind = kind_of_file(file)
    if kind not in (None, "a Parquet file"):
        return BadInput(f"{file.name}: is no Parquet table but {kind}")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return BadInput(f"{file.name}: cannot be read as a Parquet table: {reason[:200]}")


def _difference(first: "pa.Schema", other: "pa.Schema") -> str:
    described = {f"{field.name}: {field.type}" for field in first}
    found = {f"{field.name}: {field.type}" for field in other}
    changed = [f"lacks {text}" for text in sorted(described - found)]
    changed += [f"has {text}" for text in sorted(found - described)]
    return "; ".join(changed[:5]) or "another order"
