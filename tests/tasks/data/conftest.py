"""Small real images and a small source."""

import csv
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def encoded(seed: int = 0, *, kind: str = "PNG", mode: str = "L", size: int = 24) -> bytes:
    """Return a small image file of noise, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size), np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 256)
    elif mode != "L":
        image = image.convert(mode)
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def image_bytes() -> Callable[..., bytes]:
    return encoded


@pytest.fixture
def make_source(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes ``metadata.csv`` and ``images/`` from a list of rows."""

    def make(rows: list[dict[str, str]], images: dict[str, bytes], name: str = "source") -> Path:
        root = tmp_path / name
        (root / "images").mkdir(parents=True)
        with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), restval="")
            writer.writeheader()
            writer.writerows(rows)
        for filename, content in images.items():
            path = root / "images" / filename
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root

    return make
