"""From encoded bytes to the pixels that a model sees: one graph for training and for serving."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.contract import BadInput, StageError
from tasks.serving.image_files import ANIMATED, SERVED_KINDS, STARTS
from tasks.training.orientation import orientation, turn_upright

log = logging.getLogger("tasks")

_CHUNK = 512
_LINE_EVERY_SECONDS = 15.0


def decode(encoded: Any, *, channels: int, upright: bool = True) -> Any:
    """Decode one PNG, JPEG, GIF (first frame), BMP or WebP into pixels.

    Grey, palette, RGB, with or without alpha (dropped), 8 or 16 bits (reduced to 8) and CMYK all
    come out alike.

    Parameters
    ----------
    encoded : tf.Tensor
        Scalar string, the bytes of the file.
    channels : {1, 3}
        Grey or RGB.
    upright : bool
        Turn the image as its EXIF orientation says.

    Returns
    -------
    tf.Tensor
        uint8, shape (height, width, channels), 0..255.
    """
    # asked for its own channels, because the BMP and GIF decoders refuse to convert
    pixels = tf.io.decode_image(_servable(encoded), channels=0, expand_animations=False)
    pixels = tf.ensure_shape(pixels, [None, None, None])
    has_alpha = tf.equal(tf.shape(pixels)[-1] % 2, 0)
    colours = tf.shape(pixels)[-1] - tf.cast(has_alpha, tf.int32)
    pixels = pixels[..., :colours]
    if upright:
        pixels = turn_upright(pixels, orientation(encoded))
    if channels == 3:
        return tf.ensure_shape(tf.tile(pixels, [1, 1, 3 // colours]), [None, None, 3])
    grey = tf.cond(
        tf.equal(colours, 1), lambda: pixels, lambda: tf.image.rgb_to_grayscale(pixels[..., -3:])
    )
    return tf.ensure_shape(grey, [None, None, 1])


def _servable(encoded: Any) -> Any:
    """Return the file, or a text in place of what must not reach its decoder."""
    head = tf.strings.join([tf.strings.substr(encoded, 0, 32), b"\0" * 32])

    def holds(position: int, text: bytes) -> Any:
        return tf.equal(tf.strings.substr(head, position, len(text)), text)

    flags = tf.io.decode_raw(tf.strings.substr(head, 20, 1), tf.uint8)[0]
    animated = holds(12, b"VP8X") & (tf.bitwise.bitwise_and(flags, ANIMATED) != 0)
    webp = holds(0, b"RIFF") & holds(8, b"WEBP") & ~animated
    servable = tf.reduce_any([webp, *(holds(0, start) for start, _ in STARTS)])
    return tf.where(servable, encoded, b"no image that is served")


def decode_and_resize(
    encoded: Any, *, image_size: tuple[int, int], channels: int, upright: bool = True
) -> Any:
    """Decode one image and bring it to the size that the model sees.

    Bilinear with antialiasing, rounded to whole numbers, so that what is kept in memory for
    training (one byte a value) equals what the served graph computes.

    Parameters
    ----------
    encoded : tf.Tensor
        Scalar string, the bytes of the file.
    image_size : tuple of int
        Height and width, in pixels.
    channels : {1, 3}
        Grey or RGB.
    upright : bool
        Turn the image as its EXIF orientation says.

    Returns
    -------
    tf.Tensor
        uint8, shape (*image_size, channels), 0..255.
    """
    pixels = decode(encoded, channels=channels, upright=upright)

    def resized() -> Any:
        smooth = tf.image.resize(pixels, image_size, method="bilinear", antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(smooth), 0.0, 255.0), tf.uint8)

    fits = tf.reduce_all(tf.equal(tf.shape(pixels)[:2], tf.constant(image_size)))
    return tf.ensure_shape(tf.cond(fits, lambda: pixels, resized), [*image_size, channels])


def decode_batch(
    encoded: Any, *, image_size: tuple[int, int], channels: int, upright: bool = True
) -> Any:
    """Decode and resize a batch inside a graph.

    Parameters
    ----------
    encoded : tf.Tensor
        Strings, shape (n,), each the bytes of a file.
    image_size : tuple of int
        Height and width, in pixels.
    channels : {1, 3}
        Grey or RGB.
    upright : bool
        Turn images as their EXIF orientation says.

    Returns
    -------
    tf.Tensor
        uint8, shape (n, *image_size, channels).
    """
    return tf.map_fn(
        lambda one: decode_and_resize(
            one, image_size=image_size, channels=channels, upright=upright
        ),
        encoded,
        fn_output_signature=tf.TensorSpec([*image_size, channels], tf.uint8),
        parallel_iterations=32,
    )


def load_pixels(
    read: Callable[[], Iterable[bytes]],
    *,
    names: list[str],
    image_size: tuple[int, int],
    channels: int,
    spill: Path,
    upright: bool = True,
) -> NDArray[np.uint8]:
    """Decode and resize all images once, in parallel.

    Parameters
    ----------
    read : callable
        Returns the encoded images in order; called again only to name those that fail.
    names : list of str
        Name of each, for error messages.
    image_size : tuple of int
        Height and width, in pixels.
    channels : {1, 3}
        Grey or RGB.
    spill : Path
        File that holds the pixels (mapped into memory) when they would not fit otherwise.
    upright : bool
        Turn images as their EXIF orientation says.

    Returns
    -------
    ndarray
        uint8, shape (len(names), *image_size, channels); a ``numpy.memmap`` when spilled.

    Raises
    ------
    BadInput
        Some images cannot be decoded.
    """
    shape = (len(names), *image_size, channels)
    pixels: NDArray[np.uint8]
    if fits_in_memory(int(np.prod(shape))):
        pixels = np.empty(shape, np.uint8)
    else:
        log.info("the decoded images do not fit in memory and are kept in %s", spill.name)
        spill.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.lib.format.open_memmap(spill, mode="w+", dtype=np.uint8, shape=shape)
    unreadable: list[StageError] = []

    def files() -> Iterator[NDArray[np.object_]]:
        try:
            yield from _chunks(read())
        except StageError as error:
            # TensorFlow would make an error of its own of it
            unreadable.append(error)
            raise

    chunks = tf.data.Dataset.from_generator(
        files, output_signature=tf.TensorSpec([None], tf.string)
    ).prefetch(2)
    decoded = (
        chunks.unbatch()
        .map(
            lambda one: decode_and_resize(
                one, image_size=image_size, channels=channels, upright=upright
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .batch(_CHUNK)
        .prefetch(2)
    )
    done, spoken = 0, time.monotonic()
    try:
        for chunk in decoded.as_numpy_iterator():
            pixels[done : done + len(chunk)] = chunk
            done += len(chunk)
            if time.monotonic() - spoken > _LINE_EVERY_SECONDS:
                spoken = time.monotonic()
                log.info("decoded %d of %d images", done, len(names))
    except tf.errors.OpError as error:
        if unreadable:
            raise unreadable[0] from error
        if not isinstance(error, tf.errors.InvalidArgumentError):
            raise
        refused = undecodable(read(), names)
        raise BadInput(
            f"{len(refused)} images cannot be decoded by the served graph (it reads "
            f"{', '.join(SERVED_KINDS)}): {', '.join(refused[:5])}; convert them or leave them out "
            "by a filter"
        ) from error
    if done != len(names):
        raise BadInput(f"{done} images were read where the table lists {len(names)}")
    return pixels


def undecodable(files: Iterable[bytes], names: list[str]) -> list[str]:
    """Return the names of the files that the served graph refuses, whatever others read.

    Parameters
    ----------
    files : iterable of bytes
        Encoded images.
    names : list of str
        Name of each.
    """
    refused = []
    for name, encoded in zip(names, files, strict=False):
        try:
            decode(tf.constant(encoded), channels=3)
        except tf.errors.InvalidArgumentError:
            refused.append(name)
    return refused


def sees_upright(model: Path) -> bool:
    """Return whether an exported model turns images as their EXIF orientation says.

    One that was exported before there was a choice does not.

    Parameters
    ----------
    model : Path
        Its folder.
    """
    description = json.loads((model / "model.json").read_text(encoding="utf-8"))
    return bool(description.get("exif_orientation", "ignore") == "apply")


def fits_in_memory(size: int) -> bool:
    """Tell whether that many bytes may be kept decoded: a quarter of what is free now."""
    return size <= _free_memory() // 4


def _chunks(files: Iterable[bytes]) -> Iterator[NDArray[np.object_]]:
    iterator = iter(files)
    while chunk := list(islice(iterator, _CHUNK)):
        # an array of objects: numpy's own byte strings lose trailing zeros
        yield np.array([*chunk, None], dtype=object)[:-1]


def _free_memory() -> int:
    """Return the bytes still to be had: the machine's, or the container's if those are less."""
    free = 1 << 62
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        if limit != "max":
            free = min(free, int(limit) - int(used))
    except (OSError, ValueError):
        pass
    return free
