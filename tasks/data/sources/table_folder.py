"""Finds the files of a Parquet table that is a folder, with the columns that its folders name."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from tasks.contract import BadInput
from tasks.data.archives import MAX_DEPTH

SUFFIX = ".parquet"

_MAGIC = b"PAR1"
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class TableFile:
    """One file of a table.

    Attributes
    ----------
    path : Path
        On this machine.
    name : str
        Path inside the table.
    partition : dict of str to str or None
        What the folders above it say of all its rows: ``finding=COVID/part-0.parquet``.
    """

    path: Path
    name: str
    partition: dict[str, str | None] = field(default_factory=dict)


def is_table_file(path: Path) -> bool:
    """Return whether a file is a Parquet file by its content, or by a name that promises it."""
    if path.name.lower().endswith(SUFFIX):
        return True
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def table_files(table: Path) -> list[TableFile]:
    """Return the files of a table, in the order of their names.

    Raises
    ------
    BadInput
        The folder is kept by a table format whose files alone do not say which rows are valid.
    """
    if (table / "_delta_log").is_dir():
        raise BadInput(
            f"{table.name}: is a Delta table; its files hold rows that were deleted since; write "
            "it as plain Parquet"
        )
    return [TableFile(table / name, name, _partition(name)) for name in sorted(_names(table, ""))]


def partition_names(files: list[TableFile], columns: list[str]) -> list[str]:
    """Return the columns that the folders name and the files lack.

    Raises
    ------
    BadInput
        Some files lie in folders of other columns than the first does.
    """
    first, *others = files
    for file in others:
        if file.partition.keys() != first.partition.keys():
            raise BadInput(
                f"{file.name}: its folders name other columns than those of {first.name}; put the "
                "files side by side, or in folders of equal columns"
            )
    return [name for name in first.partition if name not in columns]


def _names(table: Path, prefix: str) -> Iterator[str]:
    if prefix.count("/") > MAX_DEPTH:
        raise BadInput(f"{prefix[:80]!r}... lies deeper than {MAX_DEPTH} folders")
    with os.scandir(table / prefix) as entries:
        # _SUCCESS, _metadata, .part-0.parquet.crc are left by those who write in parallel
        held = [entry for entry in entries if not entry.name.startswith((".", "_"))]
    for entry in held:
        if entry.is_dir(follow_symlinks=False):
            yield from _names(table, f"{prefix}{entry.name}/")
        elif entry.is_file() and is_table_file(Path(entry)):
            yield f"{prefix}{entry.name}"


def _partition(name: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for folder in name.split("/")[:-1]:
        key, equals, value = folder.partition("=")
        if equals and key:
            text = unquote(value)
            found[unquote(key)] = None if text == _NO_VALUE or not text.strip() else text
    return found
