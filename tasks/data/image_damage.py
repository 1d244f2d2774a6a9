"""Damage that Pillow passes over, and darkness that serving would make of deep images."""

import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import simplejpeg
from PIL import Image

SMALLEST_16_BIT = 4096
"""Largest value that a 16-bit image must reach; below it hardly 4 bits are left to the model."""

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PIECE = 1 << 20
_PREMATURE = "premature end"
_LEFT_OVER = re.compile(r"extraneous bytes before marker 0x(?P<marker>..)")

_HOLE = bytes(512)
"""Zeros that a lost sector of a disk leaves."""


class Doubt(NamedTuple):
    """Why a file may be less than it seems."""

    reason: str
    certain: bool
    """False: the decoder of the served graph has the last word."""


def decoded_jpeg(content: bytes, image: Image.Image) -> tuple[Image.Image, Doubt | None]:
    """Decode a JPEG, and return with it what libjpeg complains of, which Pillow keeps to itself.

    Parameters
    ----------
    content : bytes
        The file.
    image : PIL.Image.Image
        The same, opened by Pillow.

    Returns
    -------
    decoded : PIL.Image.Image
        In grey, which takes two thirds of the time that Pillow needs for colours.
    doubt : Doubt or None
        What is wrong with it.
    """
    progressive = "progressive" in image.info
    try:
        if image.mode == "CMYK":
            simplejpeg.decode_jpeg(content, "CMYK")
            image.load()
            decoded = image
        else:
            decoded = Image.fromarray(simplejpeg.decode_jpeg(content, "GRAY")[..., 0])
    except ValueError as error:
        # Pillow names what nobody can decode better than this library does
        image.load()
        return image, _meaning(" ".join(str(error).split())[:120], progressive)
    if progressive and not _has_all_scans(content):
        return decoded, Doubt(
            "image file is truncated: the scans that sharpen it are missing", True
        )
    return decoded, None


def has_hole(jpeg: bytes) -> bool:
    """Return whether the picture data of a JPEG hold a long run of zeros.

    So a lost sector or a download that was filled up looks, which decoders take for picture. Plain
    areas may be written so, too, so that it is no proof.
    """
    if _HOLE not in jpeg:
        return False
    position = 2
    while position + 4 <= len(jpeg) and jpeg[position] == 0xFF and jpeg[position + 1] != 0xDA:
        fill = jpeg[position + 1] == 0xFF
        size = int.from_bytes(jpeg[position + 2 : position + 4], "big")
        position += 1 if fill else 2 + size
    # cameras fill the file up behind the end, or put a second picture there
    end = jpeg.find(b"\xff\xd9", position)
    return jpeg.find(_HOLE, position, len(jpeg) if end < 0 else end) >= 0


def _meaning(complaint: str, progressive: bool) -> Doubt:
    if _PREMATURE in complaint.lower():
        return Doubt("image file is truncated: its data end before its last row", True)
    left_over = _LEFT_OVER.search(complaint)
    if left_over:
        # bytes before the end, or between the parts of the header, do no harm
        marker = left_over["marker"]
        return Doubt(complaint, "d0" <= marker <= "d7" or (progressive and marker != "d9"))
    return Doubt(complaint, complaint.startswith("Corrupt JPEG data"))


def _has_all_scans(content: bytes) -> bool:
    """Return whether a progressive JPEG has every coefficient to its last bit (T.81, B.2.3)."""
    position, components = 2, []
    while (marker := content[position + 1]) != 0xDA:
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xC2:
            components = list(
                content[position + 10 : position + 10 + 3 * content[position + 9] : 3]
            )
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    missing = {component: set(range(64)) for component in components}
    end = content.find(b"\xff\xd9", position)
    while 0 <= position < end:
        count = content[position + 4]
        first, last, bits = content[position + 5 + 2 * count : position + 8 + 2 * count]
        if bits & 0x0F == 0:
            for component in content[position + 5 : position + 5 + 2 * count : 2]:
                missing.get(component, set()).difference_update(range(first, last + 1))
        position = content.find(b"\xff\xda", position + 2)
    return not any(missing.values())


def png_doubt(content: bytes, image: Image.Image) -> Doubt | None:
    """Return what libpng would miss in a PNG that Pillow decodes.

    Parameters
    ----------
    content : bytes
        The file.
    image : PIL.Image.Image
        The same, decoded.
    """
    end = b""
    for kind, _, sum_is_right in _chunks(content):
        end = kind
        if kind in _CRITICAL and not sum_is_right:
            return Doubt(f"checksum of {kind.decode()} does not match", False)
    if end != b"IEND":
        return Doubt("image file is truncated: it has no end", True)
    if content[28]:
        return Doubt("interlaced", False)
    # Pillow leaves black what is not there
    last_row = image.crop((0, image.height - 1, image.width, image.height))
    black = last_row.getbbox(alpha_only=False) is None
    if black and sum(map(len, _lines(content))) < _expected(content):
        return Doubt("image file is truncated: its data end before its last row", True)
    return None


def too_dark(content: bytes, image: Image.Image) -> bool:
    """Return whether a 16-bit PNG has nothing in the upper bits, which are all that serving keeps.

    An image that is black altogether is not too dark: there is nothing to lose.
    """
    largest = max(high for _, high in _extrema(image))
    if image.mode.startswith("I"):
        return 0 < largest < SMALLEST_16_BIT
    if content[24] != 16:
        return False
    # of several channels Pillow keeps the upper byte of each value
    if largest:
        return largest < SMALLEST_16_BIT >> 8
    return _any_colour(content)


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    found = image.getextrema()
    bands = [found] if isinstance(found[0], int | float) else list(found)
    return [band for name, band in zip(image.getbands(), bands, strict=True) if name != "A"]


def _any_colour(content: bytes) -> bool:
    """Return whether any value of a 16-bit PNG but alpha is not 0.

    No filter makes anything but zeros of zeros, so that they need not be undone.
    """
    width, channels = int.from_bytes(content[16:20], "big"), _PNG_CHANNELS[content[25]]
    stride, pixel = 1 + width * channels * 2, channels * 2
    colours = pixel - 2 * (channels in (2, 4))
    if content[28]:
        return any(map(any, _lines(content)))
    lines = b"".join(_lines(content))
    return any(
        any(lines[start + 1 + byte : start + stride : pixel])
        for start in range(0, len(lines), stride)
        for byte in range(colours)
    )


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Yield type, body and whether the checksum matches, up to the end."""
    position, view = 8, memoryview(content)
    while position + 12 <= len(content):
        size = int.from_bytes(content[position : position + 4], "big")
        end = position + 8 + size
        found = content[end : end + 4]
        if len(found) < 4:
            return
        kind = content[position + 4 : position + 8]
        checksum = zlib.crc32(view[position + 4 : end])
        yield kind, view[position + 8 : end], checksum == int.from_bytes(found, "big")
        if kind == b"IEND":
            return
        position = end + 4


def _lines(content: bytes) -> Iterator[bytes]:
    """Yield the rows of a PNG as they are packed, each with its filter byte, in pieces.

    No more than belong to it: a file may be made to unpack into far more.
    """
    unpacker, left = zlib.decompressobj(), _expected(content)
    for kind, body, _ in _chunks(content):
        packed: bytes | memoryview = body if kind == b"IDAT" else b""
        while left > 0 and (piece := unpacker.decompress(packed, min(left, _PIECE))):
            left -= len(piece)
            packed = unpacker.unconsumed_tail
            yield piece


def _expected(content: bytes) -> int:
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    return height * (1 + (width * content[24] * _PNG_CHANNELS[content[25]] + 7) // 8)
