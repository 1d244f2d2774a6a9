"""The hash computed for many images at once is ImageHash's, bit for bit."""

from io import BytesIO

import imagehash
import numpy as np
import pytest
from PIL import Image

from tasks.data.perceptual import perceptual_hashes, thumbnail

Y, X = np.mgrid[:96, :96]

PICTURES = {
    "noise": np.random.default_rng(0).integers(0, 256, (70, 131)),
    "slope": X * 2,
    # symmetric pictures have frequencies of exactly zero, and ties at the median
    "valley": np.abs(X - 47.5) * 5,
    "ring": np.hypot(X - 47.5, Y - 47.5) * 3,
    "chess": (X // 8 + Y // 8) % 2 * 255,
    "half": (X > 48) * 255,
    "line": (X == 3) * 255,
    "tiny": np.arange(6).reshape(2, 3) * 40,
}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK"])
def test_the_hash_is_that_of_imagehash(mode: str) -> None:
    images = []
    for pixels in PICTURES.values():
        grey = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        images.append(grey.convert(mode))
    expected = [str(imagehash.phash(image)) for image in images]
    assert perceptual_hashes([thumbnail(image) for image in images]) == expected
    assert [perceptual_hashes([thumbnail(image)])[0] for image in images] == expected


@pytest.mark.parametrize("grey", [0, 7, 255])
def test_an_image_of_one_grey_has_no_hash(grey: int) -> None:
    blank, film = Image.new("L", (80, 90), grey), Image.fromarray(X.astype(np.uint8))
    blank_hash, film_hash = perceptual_hashes([thumbnail(blank), thumbnail(film)])
    assert blank_hash is None
    assert film_hash == str(imagehash.phash(film))


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    pixels = np.clip(np.hypot(X - 30, Y - 50) * 3, 0, 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels.astype(np.uint16) * 257).save(buffer, "PNG")
    with Image.open(buffer) as deep:
        deep.load()
        assert deep.mode == "I;16"
        assert perceptual_hashes([thumbnail(deep)]) == perceptual_hashes(
            [thumbnail(Image.fromarray(pixels))]
        )
