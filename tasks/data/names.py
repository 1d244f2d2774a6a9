"""Columns that the stages add to the source's own, and file names that the source gives."""

import os
from pathlib import Path

INGEST_COLUMNS = (
    "image_id",
    "image_status",
    "image_sha256",
    "image_phash",
    "image_width",
    "image_height",
    "image_mode",
    "image_bytes",
    "duplicate_of",
    "region_path",
)
"""What ``ingest`` finds out about each row's image."""

ARRANGE_COLUMNS = (
    "image_path",
    "shard",
    "shard_offset",
    "split_side",
    "class_name",
    "class_index",
    "group_key",
    "near_duplicate_family",
)
"""Where ``arrange`` puts each row."""

RESERVED = frozenset(INGEST_COLUMNS + ARRANGE_COLUMNS)


def is_plain_path(name: str) -> bool:
    """Tell whether a name that the source gives is a path that can only lead downwards."""
    parts = name.split("/")
    return not ("\0" in name or any(part in ("..", ".", "") for part in parts))


def leads_down(name: str) -> bool:
    """Return whether a name, however oddly written, says nothing that would leave its folder."""
    parts = name.replace("\\", "/").split("/")
    return parts[0][-1:] not in ("", ":") and "\0" not in name and ".." not in parts


def is_text(name: str) -> bool:
    """Return whether a file's name is UTF-8: Python shows other bytes as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def confined(root: Path, name: str) -> tuple[Path | None, str]:
    """Return the path of a file named by the source, or None and why it may not be followed.

    Parameters
    ----------
    root : Path
        Folder that must hold it, all links resolved.
    name : str
        What the source says.
    """
    if not is_plain_path(name):
        return None, "the name is no plain path inside the folder"
    path = root / name
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError):
        return None, "the name cannot be a file's"
    if real != str(path) and not real.startswith(f"{root}{os.sep}"):
        return None, "it is a link that leaves the folder"
    return path, ""
