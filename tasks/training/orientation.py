"""EXIF's orientation, read and applied by operations that a served graph can hold.

:mod:`tasks.data.exif` reads it by the same rules when images are taken in: change both.
"""

from typing import Any

import tensorflow as tf

UPRIGHT = 1
_ORIENTATION_TAG, _SHORT, _LONG = 0x0112, 3, 4
_NOWHERE = -1
_JPEG_HEADER = 256 * 1024
"""EXIF data belong to the beginning of a JPEG, even where a profile of colours is before them."""
_MOST_PARTS = 10_000
"""Chunks or segments that are gone through: 80 MB of PNG as libpng cuts it."""


def orientation(encoded: Any) -> Any:
    """Return the orientation that an image file's EXIF data name.

    EXIF data are looked for where JPEG (segment APP1), PNG (chunk eXIf) and WebP (chunk EXIF) have
    them. Whatever cannot be understood counts as upright.

    Parameters
    ----------
    encoded : tf.Tensor
        Scalar string, the bytes of the file.

    Returns
    -------
    tf.Tensor
        int32 scalar, 1 to 8 (CIPA DC-008, 4.6.5): 1 is upright.
    """
    # these are many small steps, which a GPU would only slow down
    with tf.device("CPU:0"):
        is_jpeg = _is(encoded, 0, b"\xff\xd8\xff")
        searched = tf.where(is_jpeg, tf.strings.substr(encoded, 0, _JPEG_HEADER), encoded)
        # most files have none, which a search finds out in a tenth of the time
        named = tf.strings.regex_full_match(searched, rb"\C*(?:Exif\x00|eXIf|EXIF)\C*")
        return tf.cond(named, lambda: _walked(encoded, is_jpeg), lambda: tf.constant(UPRIGHT))


def _walked(encoded: Any, is_jpeg: Any) -> Any:
    is_png = _is(encoded, 0, b"\x89PNG\r\n\x1a\n")
    is_webp = _is(encoded, 0, b"RIFF") & _is(encoded, 8, b"WEBP")
    tiff = tf.case(
        [
            (is_jpeg, lambda: _in_jpeg(encoded)),
            (is_png, lambda: _in_png(encoded)),
            (is_webp, lambda: _in_webp(encoded)),
        ],
        default=lambda: tf.constant(_NOWHERE),
    )
    return tf.cond(tiff >= 0, lambda: _in_tiff(encoded, tiff), lambda: tf.constant(UPRIGHT))


def turn_upright(pixels: Any, turned: Any) -> Any:
    """Turn an image as its orientation says.

    Parameters
    ----------
    pixels : tf.Tensor
        uint8, shape (height, width, channels), as stored.
    turned : tf.Tensor
        int32 scalar, 1 to 8.

    Returns
    -------
    tf.Tensor
        As it is meant to be looked at; height and width change places for 5 to 8.
    """

    def one_of(*values: int) -> Any:
        return tf.reduce_any(tf.equal(turned, values))

    def transposed() -> Any:
        # without tf.transpose, which complains of whole numbers on many processors
        height, width, channels = tf.unstack(tf.shape(pixels))
        order = tf.range(width)[:, None] + width * tf.range(height)[None, :]
        return tf.gather(tf.reshape(pixels, [height * width, channels]), order)

    def turn() -> Any:
        image = tf.cond(one_of(5, 6, 7, 8), transposed, lambda: pixels)
        image = tf.cond(one_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
        return tf.cond(one_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)

    return tf.cond(tf.equal(turned, UPRIGHT), lambda: pixels, turn)


def _in_jpeg(encoded: Any) -> Any:
    """Return where the TIFF structure of the first EXIF segment begins, or -1."""

    def step(position: Any, _: Any) -> tuple[Any, Any]:
        head = _numbers(encoded, position, 4)
        marker, size = head[1], head[2] * 256 + head[3]
        fill = tf.equal(head[0], 0xFF) & tf.equal(marker, 0xFF)
        found = tf.equal(marker, 0xE1) & _is(encoded, position + 4, b"Exif\0\0")
        # the pixels follow the scan's header; EXIF data behind it are another picture's
        over = tf.not_equal(head[0], 0xFF) | tf.equal(marker, 0xDA) | (size < 2)
        after = tf.where(fill, position + 1, tf.where(over, -1, position + 2 + size))
        return tf.where(found & ~over, -1, after), tf.where(found & ~over, position + 10, _NOWHERE)

    return _walk(step, 2, encoded)


def _in_png(encoded: Any) -> Any:
    def step(position: Any, _: Any) -> tuple[Any, Any]:
        size, found = _number(encoded, position, 4, False), _is(encoded, position + 4, b"eXIf")
        after = tf.where(found | (size < 0), -1, position + 12 + size)
        return after, tf.where(found, position + 8, _NOWHERE)

    return _walk(step, 8, encoded)


def _in_webp(encoded: Any) -> Any:
    def step(position: Any, _: Any) -> tuple[Any, Any]:
        size, found = _number(encoded, position + 4, 4, True), _is(encoded, position, b"EXIF")
        after = tf.where(found | (size < 0), -1, position + 8 + size + size % 2)
        start = position + 8
        # some writers put the name of JPEG's segment before it
        start = tf.where(_is(encoded, start, b"Exif\0\0"), start + 6, start)
        return after, tf.where(found, start, _NOWHERE)

    return _walk(step, 12, encoded)


def _walk(step: Any, start: int, encoded: Any) -> Any:
    """Go through the parts of a file until a step finds or ends, or the file is over."""
    length = tf.strings.length(encoded)
    _, found = tf.while_loop(
        lambda position, _: (position >= 0) & (position < length),
        step,
        (tf.constant(start), tf.constant(_NOWHERE)),
        maximum_iterations=_MOST_PARTS,
    )
    return found


def _in_tiff(encoded: Any, start: Any) -> Any:
    """Return the orientation that the first directory of a TIFF structure names."""
    order = _text(encoded, start, 4)
    little = tf.equal(order, b"II*\0")
    known = little | tf.equal(order, b"MM\0*")
    offset = _number(encoded, start + 4, 4, little)
    over = tf.strings.length(encoded)
    # too large a number is negative, and leads nowhere
    directory = tf.where((offset < 0) | (offset > over), over, start + offset)
    size = 12 * _number(encoded, directory, 2, little)
    raw = _text(encoded, directory + 2, tf.where(known, size, 0))
    entries = tf.reshape(
        tf.cast(tf.io.decode_raw(raw, tf.uint8), tf.int32)[: tf.strings.length(raw) // 12 * 12],
        [-1, 12],
    )

    def short(column: int) -> Any:
        low, high = entries[:, column], entries[:, column + 1]
        return tf.where(little, low + 256 * high, 256 * low + high)

    def long(column: int) -> Any:
        first, second = short(column), short(column + 2)
        return tf.where(little, first + 65536 * second, 65536 * first + second)

    kind, count = short(2), long(4)
    named = tf.equal(short(0), _ORIENTATION_TAG) & tf.equal(count, 1)
    named &= tf.equal(kind, _SHORT) | tf.equal(kind, _LONG)
    values = tf.where(tf.equal(kind, _SHORT), short(8), long(8))
    # the first counts
    value = tf.concat([tf.boolean_mask(values, named), [UPRIGHT]], axis=0)[0]
    return tf.where((value >= 1) & (value <= 8), value, UPRIGHT)


def _is(encoded: Any, position: Any, text: bytes) -> Any:
    return tf.equal(_text(encoded, position, len(text)), text)


def _text(encoded: Any, position: Any, size: Any) -> Any:
    """Return bytes of the file, fewer or none where it is over."""
    length = tf.strings.length(encoded)
    return tf.strings.substr(encoded, tf.clip_by_value(position, 0, length), size)


def _numbers(encoded: Any, position: Any, size: int) -> Any:
    """Return bytes as int32 (size,), zeros where the file is over."""
    padded = tf.strings.join([_text(encoded, position, size), b"\0" * size])
    return tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, size), tf.uint8), tf.int32)


def _number(encoded: Any, position: Any, size: int, little: Any) -> Any:
    """Return an int32 of several bytes, which is negative where it would be too large."""
    numbers = _numbers(encoded, position, size)
    numbers = tf.where(little, numbers, numbers[::-1])
    return tf.reduce_sum(numbers * tf.constant([256**power for power in range(size)]))
