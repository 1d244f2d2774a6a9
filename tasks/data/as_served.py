"""Asks the graph that serves what it makes of an image file."""

import sys
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.serving.image_files import kind_of

MOST_DIFFERENCE = 4.0
"""Mean difference, of 255, that two JPEG decoders may have; all others are exact."""

_importing = Lock()


def served_otherwise(content: bytes, image: Image.Image) -> str:
    """Return how the served graph reads a file otherwise than Pillow, or an empty string.

    Imports TensorFlow, so that it is asked only about files that are not plainly good.

    Parameters
    ----------
    content : bytes
        The file.
    image : PIL.Image.Image
        The same, decoded.
    """
    served = _pixels(content)
    if served is None:
        return "the served graph cannot decode it"
    height, width = served.shape[:2]
    if (width, height) != image.size:
        return f"the served graph reads {width} x {height} pixels of {image.width} x {image.height}"
    bound = MOST_DIFFERENCE if kind_of(content) == "JPEG" else 0.0
    if np.abs(served.astype(np.int16) - _colours(image)).mean() > bound:
        return "the served graph reads other colours than are meant"
    return ""


def _pixels(content: bytes) -> NDArray[np.uint8] | None:
    """Return what the served graph decodes, uint8 (height, width, 3), or None."""
    with _importing:
        decode = _decoder()
    import tensorflow as tf

    try:
        pixels: NDArray[np.uint8] = decode(tf.constant(content)).numpy()
    except tf.errors.OpError:
        return None
    return pixels


@cache
def _decoder() -> Any:
    """Return the function that is exported for serving: traced once, fast thereafter."""
    if "tensorflow" not in sys.modules:
        from tasks.native_log import import_tensorflow

        import_tensorflow()
    import tensorflow as tf

    from tasks.training.images import decode

    def stored(content: Any) -> Any:
        with tf.device("CPU:0"):
            return decode(content, channels=3, upright=False)

    return tf.function(stored, input_signature=[tf.TensorSpec([], tf.string)])


def _colours(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    return np.asarray(image.convert("RGB"))
