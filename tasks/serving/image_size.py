"""How many pixels an image file says it has, read from its header and from nothing behind it.

Decoders allocate what the header announces, so a header that lies costs as much as one that does
not. Read as the decoders of the served graph read it: libpng, libjpeg, giflib, libwebp, and
TensorFlow's own of BMP. Standard library only: the model server imports it, and ingest does.
"""

import re
from collections.abc import Iterator
from struct import error as StructError
from struct import unpack_from

from tasks.serving.image_files import kind_of

MAX_SCANS = 64
"""Passes over a progressive JPEG. Each costs a pass over all pixels and may be ten bytes long."""

MAX_PARTS = 1_000_000
"""Markers, chunks or blocks of a file that are looked at; those of an honest one are long."""

# markers of a JPEG that are followed by nothing
_BARE = {0x01, *range(0xD0, 0xD8)}
# start of a frame; C4, C8 and CC among them are tables
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_NO_FF = re.compile(rb"[^\xff]")


class _TooManyParts(Exception):
    """A file is of so many parts that walking over them would not end soon."""


def pixels_of(content: bytes) -> int | None:
    """Return the pixels that decoding a file takes, those of every frame of an animation.

    Parameters
    ----------
    content : bytes
        The whole file.

    Returns
    -------
    int or None
        None when it is none of the kinds that are served, or its header cannot be read: then it
        must not be decoded.
    """
    readers = {"PNG": _png, "JPEG": _jpeg, "GIF": _gif, "BMP": _bmp, "WebP": _webp}
    kind = kind_of(content)
    if kind is None:
        return None
    try:
        return readers[kind](content) or None
    except (StructError, IndexError, _TooManyParts):
        return None


def _parts() -> Iterator[int]:
    """Count the parts of a file, and end the walk over too many."""
    yield from range(MAX_PARTS)
    raise _TooManyParts


def too_many_scans(content: bytes) -> bool:
    """Return whether a file is a JPEG of so many passes that decoding it would not end soon."""
    return content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > MAX_SCANS


def _png(content: bytes) -> int | None:
    if content[12:16] != b"IHDR":
        return None
    width, height = unpack_from(">II", content, 16)
    return int(width * height)


def _jpeg(content: bytes) -> int | None:
    position = 2
    for _ in _parts():
        # as libjpeg: whatever is before a marker is skipped, and any number of FF begins one
        start = content.find(b"\xff", position)
        found = _NO_FF.search(content, start) if start >= 0 else None
        if found is None:
            return None
        marker, position = found[0][0], found.end()
        if marker == 0 or marker in _BARE:
            continue
        if marker in _FRAMES:
            height, width = unpack_from(">HH", content, position + 3)
            return int(width * height)
        if marker in (0xD8, 0xD9, 0xDA):
            # a picture without a frame before its data
            return None
        position += max(2, unpack_from(">H", content, position)[0])
    return None


def _gif(content: bytes) -> int:
    width, height, flags = unpack_from("<HHB", content, 6)
    canvas, frames, position = int(width * height), 0, 13 + _palette(flags)
    parts = _parts()
    try:
        for _ in parts:
            block = content[position]
            if block == 0x2C:
                width, height, flags = unpack_from("<HHB", content, position + 5)
                frames += width * height
                # the byte after the palette is the size of a code
                position = _after_blocks(content, position + 11 + _palette(flags), parts)
            elif block == 0x21:
                position = _after_blocks(content, position + 2, parts)
            else:
                break
    except (StructError, IndexError):
        # cut off: what was announced so far is what a decoder allocates
        pass
    return max(canvas, frames)


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(content: bytes, position: int, parts: Iterator[int]) -> int:
    while content[position]:
        next(parts)
        position += content[position] + 1
    return position + 1


def _bmp(content: bytes) -> int:
    width, height = unpack_from("<ii", content, 18)
    return abs(int(width * height))


def _webp(content: bytes) -> int:
    canvas, images, frames = 0, [0], 0
    for name, start in _chunks(content):
        if name == b"VP8X":
            canvas = (1 + _three(content, start + 4)) * (1 + _three(content, start + 7))
        elif name == b"VP8 ":
            width, height = unpack_from("<HH", content, start + 6)
            images.append((width & 0x3FFF) * (height & 0x3FFF))
        elif name == b"VP8L":
            (bits,) = unpack_from("<I", content, start + 1)
            images.append((1 + (bits & 0x3FFF)) * (1 + (bits >> 14 & 0x3FFF)))
        frames += name == b"ANMF"
    return max(canvas * max(1, frames), *images)


def _chunks(content: bytes) -> Iterator[tuple[bytes, int]]:
    position = 12
    for _ in _parts():
        if position + 8 > len(content):
            return
        (size,) = unpack_from("<I", content, position + 4)
        yield content[position : position + 4], position + 8
        position += 8 + size + (size & 1)


def _three(content: bytes, position: int) -> int:
    low, high = unpack_from("<HB", content, position)
    return int(low | high << 16)
