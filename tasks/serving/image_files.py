"""Which image files the served graph takes, told by their first bytes."""

from typing import Literal

Kind = Literal["JPEG", "PNG", "GIF", "BMP", "WebP"]

SERVED_KINDS: tuple[Kind, ...] = ("JPEG", "PNG", "GIF", "BMP", "WebP")
"""What the served graph decodes."""

STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
)
"""First bytes by kind; WebP hides its own behind a size."""

ANIMATED = 0b10
"""Bit of the flags of an extended WebP."""

_JPEG_XL = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")


def kind_of(content: bytes) -> Kind | None:
    """Return the kind of an image file as TensorFlow tells it, or None if it is none of them."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    return next((kind for start, kind in STARTS if content.startswith(start)), None)


def is_jpeg_xl(content: bytes) -> bool:
    """Return whether these are the bytes of a JPEG XL file."""
    return content.startswith(_JPEG_XL)


def is_animated_webp(content: bytes) -> bool:
    """Return whether a WebP file announces several pictures.

    TensorFlow 2.21 writes such a file's four channels into memory for three, so that it must never
    reach the decoder.
    """
    animated = content[12:16] == b"VP8X" and len(content) > 20 and content[20] & ANIMATED
    return kind_of(content) == "WebP" and bool(animated)


def refusal(content: bytes) -> str:
    """Return why a file must not be given to the served graph, or an empty string.

    Parameters
    ----------
    content : bytes
        The file; its first 32 bytes are enough.
    """
    if is_animated_webp(content):
        return "an animated WebP cannot be served; keep one picture of it"
    if kind_of(content) is None:
        name = "JPEG XL" if is_jpeg_xl(content) else "what this is"
        return f"{name} cannot be served; convert it to one of {', '.join(SERVED_KINDS)}"
    return ""
