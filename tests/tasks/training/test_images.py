"""Decoding is the same whatever the file, and the same in training and in service."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tasks.training import images
from tasks.training.images import decode, decode_and_resize, decode_batch, load_pixels

RAMP = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
COLOURS = Image.fromarray(np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], axis=-1))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "BMP"),
        ("L", "BMP"),
        ("P", "GIF"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_decoded_as_pillow_does(
    mode: str, kind: str, channels: int, encode: Any
) -> None:
    encoded = encode(COLOURS.convert(mode), kind)
    pixels = decode(tf.constant(encoded), channels=channels).numpy()
    with Image.open(__import__("io").BytesIO(encoded)) as image:
        expected = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    assert pixels.dtype == np.uint8
    # JPEG's and grey's arithmetic differ by a rounding
    assert np.abs(pixels.astype(int) - expected.reshape(pixels.shape)).max() <= 3


def test_sixteen_bits_become_eight(encode: Any) -> None:
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    pixels = decode(tf.constant(encode(deep, "PNG")), channels=1).numpy()
    np.testing.assert_array_equal(pixels[..., 0], RAMP)


def test_training_sees_exactly_the_pixels_that_serving_computes(
    tmp_path: Path, encode: Any
) -> None:
    files = [encode(COLOURS, "PNG"), encode(COLOURS.convert("L"), "JPEG"), encode(COLOURS, "BMP")]
    trained = load_pixels(
        lambda: iter(files),
        names=["a", "b", "c"],
        image_size=(20, 28),
        channels=3,
        spill=tmp_path / "pixels.npy",
    )
    served = tf.function(lambda x: decode_batch(x, image_size=(20, 28), channels=3))(
        tf.constant(files)
    )
    np.testing.assert_array_equal(trained, served)


def test_resizing_averages_rather_than_skips(encode: Any) -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32)))
    small = decode_and_resize(
        tf.constant(encode(stripes, "PNG")), image_size=(8, 8), channels=1
    ).numpy()
    assert np.abs(small.astype(int) - 127).max() <= 12


def test_images_of_the_right_size_are_left_alone(encode: Any) -> None:
    same = decode_and_resize(tf.constant(encode(COLOURS, "PNG")), image_size=(48, 64), channels=3)
    np.testing.assert_array_equal(same, np.asarray(COLOURS))


def test_pixels_that_do_not_fit_in_memory_are_kept_on_disk(
    tmp_path: Path, encode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_free_memory", lambda: 10_000)
    pixels = load_pixels(
        lambda: iter([encode(COLOURS, "PNG")] * 3),
        names=["a", "b", "c"],
        image_size=(48, 64),
        channels=3,
        spill=tmp_path / "deep" / "pixels.npy",
    )
    assert isinstance(pixels, np.memmap)
    np.testing.assert_array_equal(pixels[2], np.asarray(COLOURS))
