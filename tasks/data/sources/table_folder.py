"""Finds the files of a Parquet table that is a folder, with the columns that its folders name."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from tasks.contract import BadConfig, BadInput, NoInput
from tasks.data.archives import MAX_DEPTH
from tasks.data.objects import listing

log = logging.getLogger("tasks")

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
        for form, pattern in _LOGS.items():
            if any(folder.glob(pattern)):
                raise _refusal(place.name, form, folder.name or str(folder))
        inside = folder != root and folder.is_relative_to(root)
        if folder == folder.parent or not (inside or _is_part(folder.name)):
            return
        folder = folder.parent


def refuse_stored_log(uri: str, inside: str) -> None:
    """Refuse a source in a bucket as :func:`refuse_table_format` does: its log is not fetched.

    Parameters
    ----------
    uri : str
        Address of the source.
    inside : str
        Path of the table's folder inside it; empty: the source itself.

    Raises
    ------
    BadInput
        Names the format, and the way out.
    """
    scheme, _, path = uri.rstrip("/").partition("://")
    bucket, *source = path.split("/")
    folders = [*source, *PurePosixPath(inside).parts]
    for depth in range(len(folders), -1, -1):
        address = "/".join([f"{scheme}://{bucket}", *folders[:depth]])
        try:
            form = _stored_log(address)
        except BadConfig:
            # keys that open the source alone read on
            log.warning("%s: may not be listed: whether it has a table's log is not known", address)
            return
        if form is not None:
            raise _refusal(uri, form, address)
        if depth == 0 or not (depth > len(source) or _is_part(folders[depth - 1])):
            return


def _stored_log(address: str) -> str | None:
    """Return the format whose log lies in a folder of a bucket."""
    for form, pattern in _LOGS.items():
        folder, _, ending = pattern.partition("/*")
        try:
            names = listing(address, [folder])
        except NoInput:
            continue
        if any(name.startswith(f"{folder}/") and name.endswith(ending) for name in names):
            return form
    return None


def _is_part(folder: str) -> bool:
    """Return whether a folder is called like a part of a table, whose log lies further up."""
    return "=" in folder or folder == "data"


def _refusal(name: str, form: str, folder: str) -> BadInput:
    return BadInput(
        f"{name}: belongs to {form} ({folder}); its files hold rows that were deleted since; write "
        "it as plain Parquet"
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
