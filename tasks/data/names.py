"""Columns that the stages add to the source's own."""

INGEST_COLUMNS = (
    "image_id",
    "image_status",
    "image_sha256",
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
)
"""Where ``arrange`` puts each row."""

RESERVED = frozenset(INGEST_COLUMNS + ARRANGE_COLUMNS)


def is_plain_path(name: str) -> bool:
    """Tell whether a name that the source gives is a path that can only lead downwards."""
    parts = name.split("/")
    return not ("\0" in name or any(part in ("..", ".", "") for part in parts))
