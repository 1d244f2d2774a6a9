"""What TensorFlow Datasets writes beside its TFRecord files: features, class names, splits."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contract import BadInput
from tasks.data.sources.annotation_file import expect, read_json
from tasks.data.sources.features import Column

FEATURES, INFO = "features.json", "dataset_info.json"

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_MOST_SHARDS = 100_000
_AS_COLUMNS = ("classLabel", "text", "tensor", "boundingBox")
"""Kinds of features whose values read as text; others are images, sounds and films."""


@dataclass(frozen=True)
class Shard:
    """A file of a split: its name, and how many examples it holds (None where nothing says so)."""

    name: str
    split: str
    examples: int | None


def read_shards(folder: Path) -> list[Shard] | None:
    """Return the files that ``dataset_info.json`` names, in its order; None without one.

    Raises
    ------
    BadInput
        The data set is not written as TFRecord, or the file is damaged.
    """
    path = folder / INFO
    if not path.is_file():
        return None
    info = read_json(path)
    form = info.get("fileFormat") or "tfrecord"
    if form != "tfrecord":
        raise BadInput(
            f"{INFO}: the data set is written as {str(form)[:60]!r}; prepare it with "
            "file_format='tfrecord'"
        )
    name = expect(info.get("name"), str, f"{INFO}: name")
    shards: list[Shard] = []
    for number, split in enumerate(expect(info.get("splits"), list, f"{INFO}: splits")):
        where = f"{INFO}: splits[{number}]"
        shards += _shards(expect(split, dict, where), name, where)
    return shards


def _shards(split: dict[str, Any], dataset: str, where: str) -> Iterator[Shard]:
    name = expect(split.get("name"), str, f"{where}.name")
    lengths = expect(split.get("shardLengths"), list, f"{where}.shardLengths")
    template = split.get("filepathTemplate") or _TEMPLATE
    if len(lengths) > _MOST_SHARDS:
        raise BadInput(f"{where}: has {len(lengths)} shards; {_MOST_SHARDS} are allowed")
    for index, length in enumerate(lengths):
        # 64-bit numbers are texts in the JSON of protocol buffers
        if not re.fullmatch(r"\d{1,12}", str(length)):
            raise BadInput(f"{where}.shardLengths: {str(length)[:60]!r} is no number of examples")
        number, total = f"{index:05d}", f"{len(lengths):05d}"
        file = expect(template, str, f"{where}.filepathTemplate")
        for placeholder, value in {
            "{SHARD_X_OF_Y}": f"{number}-of-{total}",
            "{SHARD_INDEX}": number,
            "{NUM_SHARDS}": total,
            "{FILEFORMAT}": "tfrecord",
            "{SPLIT}": name,
            "{DATASET}": dataset,
        }.items():
            file = file.replace(placeholder, value)
        if "/" in file or "\0" in file or file in ("", ".", ".."):
            raise BadInput(f"{where}: {file[:120]!r} is no plain name of a file")
        yield Shard(file, name, int(length))


def read_columns(folder: Path, *, image: str) -> tuple[list[Column], list[str]] | None:
    """Return the features that become columns and those that are left out; None without a file.

    Parameters
    ----------
    folder : Path
        Holds ``features.json`` and a ``NAME.labels.txt`` for each feature of classes.
    image : str
        Feature of the image.

    Raises
    ------
    BadInput
        The file is damaged, or there is no such image.
    """
    path = folder / FEATURES
    if not path.is_file():
        return None
    found = dict(_flattened(read_json(path), ""))
    if image not in found:
        raise BadInput(
            f"{FEATURES}: there is no feature {image!r} (source.image_feature); there are "
            f"{', '.join(sorted(found)[:40])}"
        )
    columns, left_out = [], []
    for name, feature in sorted(found.items()):
        kind = next((kind for kind in _AS_COLUMNS if kind in feature), None)
        if name == image:
            continue
        if kind is None:
            left_out.append(name)
        elif kind == "classLabel":
            columns.append(Column(name, "class", _class_names(folder, name)))
        else:
            tensor = feature.get("tensor")
            truth = isinstance(tensor, dict) and tensor.get("dtype") == "bool"
            columns.append(Column(name, "truth" if truth else "value"))
    return columns, left_out


def _flattened(feature: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name the features as examples do: those inside a dict by their path."""
    where = f"{FEATURES}: {name or 'featuresDict'}"
    if "sequence" in feature:
        inner = expect(feature["sequence"], dict, where)
        yield from _flattened(expect(inner.get("feature"), dict, where), name)
    elif "featuresDict" in feature:
        inner = expect(feature["featuresDict"], dict, where)
        for key, value in expect(inner.get("features"), dict, where).items():
            path = f"{name}/{key}" if name else key
            yield from _flattened(expect(value, dict, f"{FEATURES}: {path}"), path)
    else:
        yield name, feature


def _class_names(folder: Path, feature: str) -> list[str]:
    path = folder / f"{feature.replace('/', '-')}.labels.txt"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise BadInput(f"{path.name}: is not UTF-8") from None
    return text.removesuffix("\n").split("\n")
