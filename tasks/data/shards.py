"""Packs images into tar archives of a bounded size, read back by offset."""

import tarfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def shard_folder(name: str) -> str:
    """Return the output that holds a shard: ``train_shards/`` for ``train-00000.tar``."""
    return f"{name.partition('-')[0]}_shards/"


def write_shards(
    table: "pd.DataFrame",
    sources: Sequence[Path],
    out: Path,
    *,
    limit: int,
    read: Callable[[Path, str], bytes],
) -> tuple[list[str], list[int]]:
    """Pack files into ``train_shards/train-00000.tar``, ``test_shards/test-00000.tar`` and so on.

    A folder a side, because most stages read only the test images, a small part of all.

    Parameters
    ----------
    table : DataFrame
        One row a file, with ``split_side``, ``image_path`` (the member's name) and
        ``image_sha256``, sides together.
    sources : sequence of Path
        The files.
    out : Path
        Gets the folders of the shards.
    limit : int
        Bytes of images at which a shard is closed.
    read : callable
        Returns the content of a file that has a digest, or raises.

    Returns
    -------
    names : list of str
        Shard of each row.
    offsets : list of int
        Where the member's bytes begin in it.
    """
    names: list[str] = []
    offsets: list[int] = []
    shard: tarfile.TarFile | None = None
    name, side_now, number, size = "", "", 0, 0
    try:
        columns = (table[name] for name in ("split_side", "image_path", "image_sha256"))
        for side, path, sha256, source in zip(*columns, sources, strict=True):
            encoded = read(source, sha256)
            content = len(encoded)
            if shard is None or side != side_now or (size and size + content > limit):
                if shard is not None:
                    shard.close()
                number = number + 1 if side == side_now else 0
                name, side_now, size = f"{side}-{number:05d}.tar", side, 0
                folder = out / shard_folder(name)
                folder.mkdir(parents=True, exist_ok=True)
                shard = tarfile.open(folder / name, "w", format=tarfile.GNU_FORMAT)
            # nothing but name and size, so that the same images make the same bytes
            member = tarfile.TarInfo(path)
            member.size = content
            header = len(member.tobuf(shard.format, shard.encoding, shard.errors))
            names.append(name)
            offsets.append(shard.offset + header)
            shard.addfile(member, BytesIO(encoded))
            size += content
    finally:
        if shard is not None:
            shard.close()
    return names, offsets
