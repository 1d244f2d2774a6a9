"""The IDX files of MNIST and Fashion-MNIST."""

import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import error as StructError
from struct import unpack
from typing import BinaryIO, cast

from tasks.contract import BadInput
from tasks.data.fetch import fetch_files, source_state
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.data.sources.png import encode_png
from tasks.spec.sources import Idx

_MOST_PIXELS = 4096 * 4096


class IdxReader(SourceReader):
    """Four IDX files; every image becomes a grey PNG, with columns filename, split and label."""

    kind = "idx"

    def __init__(self, spec: Idx) -> None:
        self.spec = spec
        self._names = [
            spec.train_images,
            spec.train_labels,
            spec.test_images,
            spec.test_labels,
        ]

    def state(self) -> str:
        return source_state(self.spec.uri, self._names, files=True)

    def open(self, scratch: Path) -> Contents:
        root = fetch_files(self.spec.uri, self._names, scratch)
        images = scratch / "idx-images"
        return Contents(
            columns=["filename", "split", "label"], rows=self._rows(root, images), images=images
        )

    def _rows(self, root: Path, images: Path) -> Iterator[SourceRow]:
        train_images, train_labels, test_images, test_labels = (root / n for n in self._names)
        for split, pixels, labels in (
            ("train", train_images, train_labels),
            ("test", test_images, test_labels),
        ):
            (images / split).mkdir(parents=True, exist_ok=True)
            for number, (png, label) in enumerate(self._pairs(pixels, labels)):
                name = f"{split}/{number:05d}.png"
                (images / name).write_bytes(png)
                yield SourceRow(values=[name, split, label], image=name)

    def _pairs(self, pixels: Path, labels: Path) -> Iterator[tuple[bytes, str]]:
        with _open(pixels) as pixel_stream, _open(labels) as label_stream:
            count, height, width = _header(pixel_stream, pixels, magic=2051, numbers=3)
            (label_count,) = _header(label_stream, labels, magic=2049, numbers=1)
            if count != label_count:
                raise BadInput(
                    f"{pixels.name} holds {count} images but {labels.name} {label_count} labels"
                )
            if not 0 < height * width <= _MOST_PIXELS:
                raise BadInput(
                    f"{pixels.name}: images of {height} x {width} pixels are not allowed"
                )
            for number in range(count):
                image = _read(pixel_stream, height * width, pixels)
                value = _read(label_stream, 1, labels)[0]
                if value >= len(self.spec.class_names):
                    raise BadInput(
                        f"{labels.name}: label {value} of image {number} has no name; "
                        f"source.class_names has {len(self.spec.class_names)}"
                    )
                yield encode_png(image, width=width, height=height), self.spec.class_names[value]
            # reading on to the end also has the checksums of the zipped files compared
            if _read_up_to(pixel_stream, 1, pixels) or _read_up_to(label_stream, 1, labels):
                raise BadInput(f"{pixels.name} or {labels.name} goes on after its {count} entries")


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb")


def _header(stream: BinaryIO, path: Path, *, magic: int, numbers: int) -> tuple[int, ...]:
    try:
        found, *sizes = unpack(f">{1 + numbers}I", _read(stream, 4 * (1 + numbers), path))
    except StructError:  # pragma: no cover - _read has checked the length
        raise BadInput(f"{path.name}: is too short") from None
    if found != magic:
        kind = "images" if magic == 2051 else "labels"
        raise BadInput(
            f"{path.name}: is no IDX file of {kind}: its magic number is {found}, not {magic}"
        )
    if math.prod(sizes) == 0:
        raise BadInput(f"{path.name}: holds nothing (sizes {sizes})")
    return tuple(sizes)


def _read(stream: BinaryIO, size: int, path: Path) -> bytes:
    data = _read_up_to(stream, size, path)
    if len(data) != size:
        raise BadInput(f"{path.name}: ends early; fetch it again")
    return data


def _read_up_to(stream: BinaryIO, size: int, path: Path) -> bytes:
    try:
        return stream.read(size)
    except (EOFError, OSError, zlib.error) as error:
        raise BadInput(f"{path.name}: is damaged: {error}") from None
