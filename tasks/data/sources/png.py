"""Encodes raw pixels as PNG (RFC 2083), a few times as fast as a general encoder."""

import zlib
from struct import pack

_COLOUR_TYPES = {1: 0, 3: 2}
"""PNG's number for grey and for RGB, by channels."""


def encode_png(pixels: bytes, *, width: int, height: int, channels: int = 1) -> bytes:
    """Encode 8-bit pixels.

    Parameters
    ----------
    pixels : bytes
        ``height * width * channels`` values, row by row, the channels of a pixel side by side.
    width, height : int
        Size in pixels.
    channels : int
        1 (grey) or 3 (RGB).
    """
    line = width * channels
    rows = b"".join(b"\0" + pixels[start : start + line] for start in range(0, line * height, line))
    header = pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
