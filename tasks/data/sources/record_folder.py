"""Finds the TFRecord files of a folder, whatever they are called, and the split that each is of."""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.contract import BadInput
from tasks.data.archives import MAX_DEPTH
from tasks.data.sources.record_file import is_record_file
from tasks.data.sources.tfds_folder import INFO, Shard

_SERIES = r"(?:\.gz)?(?:-(?P<number>\d+)-of-(?P<of>\d+))?(?:\.gz)?"
# NAME-SPLIT.tfrecord-00000-of-00004, and simpler names
_NAMED = re.compile(rf"(?:.*-)?(?P<split>[^-.]+)?\.(?:tfrecords?|tfrec){_SERIES}")
_NUMBERED = re.compile(rf".*?{_SERIES}")
_SPLIT_FOLDER = re.compile(r"(?i)split[-_](.+)")
_SPLITS = frozenset(
    ("train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev")
)


def find_shards(folder: Path) -> list[Shard]:
    """Return the files of a folder or, where it holds none itself, of the folders in it.

    Parameters
    ----------
    folder : Path
        Searched. A file counts by its content, or by a name that promises it.

    Raises
    ------
    BadInput
        A folder below was prepared by TensorFlow Datasets: it is read on its own.
    """
    names = sorted(_files(folder, ""))
    return [shard_of(name) for name in names or sorted(_below(folder))]


def shard_of(name: str) -> Shard:
    """Return the file of a name, with the split that its name or its folder says."""
    folder, _, last = name.rpartition("/")
    named = _SPLIT_FOLDER.fullmatch(folder.rpartition("/")[2])
    match = _NAMED.fullmatch(last)
    split = named[1] if named else (match["split"] if match else _split_word(last))
    if split and split.isdigit():
        # the number of a part: NAME_SPLIT-0.tfrecord
        split = _split_word(last)
    return Shard(name, split or folder.partition("/")[0], None)


def gaps(names: list[str]) -> list[str]:
    """Name the first file that is absent of each series, by the names of those that are there."""
    series: dict[tuple[str, str], set[int]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match and match["number"]:
            start = name[: match.start("number")]
            series.setdefault((start, match["of"]), set()).add(int(match["number"]))
    absent = []
    for (start, total), numbers in series.items():
        # some writers count from one
        begin = int(int(total) in numbers and 0 not in numbers)
        first = next(number for number in itertools.count(begin) if number not in numbers)
        if first < int(total) + begin:
            absent.append(f"{start}{first:05d}-of-{total}")
    return absent


def is_shard(path: Path) -> bool:
    """Return whether a file is a TFRecord file by its content, or by its name."""
    if _NAMED.fullmatch(path.name):
        return True
    match = _NUMBERED.fullmatch(path.name)
    # a part without records has no bytes to tell it by
    empty = match is not None and match["number"] is not None and not path.stat().st_size
    return empty or is_record_file(path)


def _split_word(last: str) -> str:
    words = {word for word in re.split(r"[-_.]", last.lower()) if word in _SPLITS}
    return words.pop() if len(words) == 1 else ""


def _files(folder: Path, prefix: str) -> Iterator[str]:
    for entry in _entries(folder / prefix):
        if entry.is_file() and is_shard(Path(entry)):
            yield f"{prefix}{entry.name}"


def _below(folder: Path, prefix: str = "") -> Iterator[str]:
    if prefix.count("/") > MAX_DEPTH:
        return
    for entry in _entries(folder / prefix):
        if not entry.is_dir(follow_symlinks=False):
            continue
        inner = f"{prefix}{entry.name}/"
        if os.path.isfile(folder / inner / INFO):
            raise BadInput(
                f"{inner}{INFO}: the folder was prepared by TensorFlow Datasets; set "
                f"source.records to {inner.rstrip('/')!r}"
            )
        yield from _files(folder, inner)
        yield from _below(folder, inner)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        # _SUCCESS and .part-00000.crc are left by those who write in parallel
        return [entry for entry in entries if not entry.name.startswith((".", "_"))]
