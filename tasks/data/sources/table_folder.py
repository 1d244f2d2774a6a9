"""Finds the files of a Parquet table that is a folder, with the columns that its folders name."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from tasks.contract import BadInput, NoInput
from tasks.data.archives import MAX_DEPTH
from tasks.data.objects import listing

SUFFIX = ".parquet"

_LOGS = {
    "a Delta table": "_delta_log",
    "a Hudi table": ".hoodie",
    "an Iceberg table": "metadata/*.metadata.json",
}
"""What table formats keep beside their files."""
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


def refuse_table_format(place: Path, root: Path) -> None:
    """Refuse files that belong to a table of Delta, Hudi or Iceberg.

    Their logs say which files and rows are valid; the files themselves hold what was deleted or
    replaced, too.

    Parameters
    ----------
    place : Path
        The table: a folder, a partition of one, or a single file of one.
    root : Path
        The source; the folders above it are looked at where the source is a partition.

    Raises
    ------
    BadInput
        Names the format, and the way out.
    """
    folder = place if place.is_dir() else place.parent
    while True:
        for form, log in _LOGS.items():
            if any(folder.glob(log)):
                raise BadInput(
                    f"{place.name}: belongs to {form} ({folder.name or folder}); its files hold "
                    "rows that were deleted since; write it as plain Parquet"
                )
        inside = folder != root and folder.is_relative_to(root)
        if folder == folder.parent or not (inside or "=" in folder.name or folder.name == "data"):
            return
        folder = folder.parent


def refuse_stored_log(uri: str) -> None:
    """Refuse a source in a bucket as :func:`refuse_table_format` does: its log is not fetched.

    Raises
    ------
    BadInput
        Names the format, and the way out.
    """
    for form, log in _LOGS.items():
        folder, _, ending = log.partition("/*")
        try:
            names = listing(uri, [folder])
        except NoInput:
            continue
        if any(name.startswith(f"{folder}/") and name.endswith(ending) for name in names):
            raise BadInput(
                f"{uri}: is {form}; its files hold rows that were deleted since; write it as plain "
                "Parquet"
            )


def table_files(table: Path) -> list[TableFile]:
    """Return the files of a table, in the order of their names."""
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
