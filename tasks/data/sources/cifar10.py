"""The batches of CIFAR-10, as python pickles or binary."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract import BadInput
from tasks.data.fetch import fetch_files, source_state
from tasks.data.sources.array_pickle import UnsafePickle, load_arrays
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.png import encode_png
from tasks.spec.sources import Cifar10

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE, CHANNELS = 32, 3
VALUES = SIDE * SIDE * CHANNELS
"""Bytes of an image: the red plane, the green and the blue."""

LARGEST_BATCH = 256 * 1024 * 1024
"""Bytes; a batch is read as a whole. The published ones have 31 million."""


@dataclass(frozen=True)
class _Batch:
    """Images of a file; labels as numbers, names as published or None."""

    pixels: "NDArray[np.uint8]"
    labels: list[int]
    names: list[str] | None


class Cifar10Reader(SourceReader):
    """Six batches; every image becomes a colour PNG, in its published order."""

    kind = "cifar10"

    def __init__(self, spec: Cifar10) -> None:
        self.spec = spec
        suffix = ".bin" if spec.version == "binary" else ""
        train = spec.train_batches or [f"data_batch_{number}{suffix}" for number in range(1, 6)]
        test = spec.test_batches or [f"test_batch{suffix}"]
        self._sides = {"train": train, "test": test}
        self._names = [*train, *test]

    def state(self) -> str:
        return source_state(self.spec.uri, self._names, files=True)

    def open(self, scratch: Path) -> Contents:
        root = fetch_files(self.spec.uri, self._names, scratch)
        images = scratch / "cifar10-images"
        columns = ["filename", "split", "label", "batch", "published_name"]
        return Contents(columns=columns, rows=self._rows(root, images), images=images)

    def _rows(self, root: Path, images: Path) -> Iterator[SourceRow]:
        read = _read_binary if self.spec.version == "binary" else _read_pickle
        for split, files in self._sides.items():
            (images / split).mkdir(parents=True, exist_ok=True)
            number = 0
            for file in files:
                batch = read(root / file)
                for position, label in enumerate(batch.labels):
                    name = f"{split}/{number:05d}.png"
                    (images / name).write_bytes(_png(batch.pixels[position]))
                    published = batch.names[position] if batch.names else None
                    values = [name, split, self._class(file, position, label), file, published]
                    yield SourceRow(values=values, image=name)
                    number += 1

    def _class(self, file: str, position: int, label: int) -> str:
        names = self.spec.class_names
        if not 0 <= label < len(names):
            raise BadInput(
                f"{file}: label {label} of image {position} has no name; source.class_names has "
                f"{len(names)}"
            )
        return names[label]


def _png(planes: "NDArray[np.uint8]") -> bytes:
    pixels = planes.reshape(CHANNELS, SIDE, SIDE).transpose(1, 2, 0).tobytes()
    return encode_png(pixels, width=SIDE, height=SIDE, channels=CHANNELS)


def _read_binary(path: Path) -> _Batch:
    import numpy as np

    content = _content(path)
    records, rest = divmod(len(content), 1 + VALUES)
    if rest or not records:
        raise BadInput(
            f"{path.name}: has {len(content)} bytes, no multiple of {1 + VALUES} (a label and an "
            "image); fetch it again"
        )
    table = np.frombuffer(content, np.uint8).reshape(records, 1 + VALUES)
    return _Batch(pixels=table[:, 1:], labels=table[:, 0].tolist(), names=None)


def _read_pickle(path: Path) -> _Batch:
    try:
        document = load_arrays(_content(path))
    except UnsafePickle as error:
        raise BadInput(f"{path.name}: {error}; nothing of it was executed") from None
    pixels, labels = _entry(document, "data"), _entry(document, "labels")
    shape = getattr(pixels, "shape", None)
    if shape is None or len(shape) != 2 or shape[1] != VALUES or not shape[0]:
        found = f"an array of {shape}" if shape is not None else f"a {type(pixels).__name__}"
        raise BadInput(f"{path.name}: 'data' is {found}, not an array of (images, {VALUES})")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise BadInput(f"{path.name}: 'labels' is no list of whole numbers")
    if len(labels) != len(pixels):
        raise BadInput(f"{path.name}: holds {len(pixels)} images but {len(labels)} labels")
    return _Batch(pixels=pixels, labels=labels, names=_names(document, path, len(pixels)))


def _entry(document: dict[Any, Any], name: str) -> Any:
    # Python 2 wrote the keys as bytes
    return document.get(name.encode(), document.get(name))


def _names(document: dict[Any, Any], path: Path, images: int) -> list[str] | None:
    names = _entry(document, "filenames")
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != images:
        raise BadInput(f"{path.name}: 'filenames' is no list of {images} names")
    if not all(isinstance(name, bytes | str) for name in names):
        raise BadInput(f"{path.name}: 'filenames' holds something else than texts")
    return [n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names]


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    if size > LARGEST_BATCH:
        raise BadInput(f"{path.name}: has {size} bytes; a batch may have {LARGEST_BATCH}")
    return path.read_bytes()
