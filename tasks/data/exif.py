"""Reads EXIF's orientation by the very rules of the served graph, without TensorFlow.

:mod:`tasks.training.orientation` holds the same rules as operations of a graph. Another reader,
such as Pillow's, would now and then find another orientation than the model does.
"""

from collections.abc import Iterator

UPRIGHT = 1

_TAG, _SHORT, _LONG = 0x0112, 3, 4
_JPEG_HEADER = 256 * 1024
_MOST_PARTS = 10_000


def orientation(content: bytes) -> int:
    """Return the orientation that an image file's EXIF data name.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    int
        1 to 8 (CIPA DC-008, 4.6.5); 1, upright, where nothing is named that can be understood: a
        single number of type SHORT or LONG.
    """
    is_jpeg = content.startswith(b"\xff\xd8\xff")
    searched = content[:_JPEG_HEADER] if is_jpeg else content
    if not any(name in searched for name in (b"Exif\0", b"eXIf", b"EXIF")):
        return UPRIGHT
    if is_jpeg:
        start = _in_jpeg(content)
    elif content.startswith(b"\x89PNG\r\n\x1a\n"):
        start = _in_png(content)
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        start = _in_webp(content)
    else:
        return UPRIGHT
    return UPRIGHT if start is None else _in_tiff(content, start)


def _in_jpeg(content: bytes) -> int | None:
    """Return where the TIFF structure of the first EXIF segment begins."""
    position = 2
    for _ in range(_MOST_PARTS):
        first, marker = content[position : position + 2].ljust(2, b"\0")
        size = int.from_bytes(content[position + 2 : position + 4].ljust(2, b"\0"), "big")
        if first == marker == 0xFF:
            position += 1
            continue
        if position >= len(content) or first != 0xFF or marker == 0xDA or size < 2:
            return None
        if marker == 0xE1 and content[position + 4 : position + 10] == b"Exif\0\0":
            return position + 10
        position += 2 + size
    return None


def _in_png(content: bytes) -> int | None:
    position = 8
    for _ in range(_MOST_PARTS):
        size = int.from_bytes(content[position : position + 4].ljust(4, b"\0"), "big", signed=True)
        if content[position + 4 : position + 8] == b"eXIf":
            return position + 8
        if size < 0 or position >= len(content):
            return None
        position += 12 + size
    return None


def _in_webp(content: bytes) -> int | None:
    position = 12
    for _ in range(_MOST_PARTS):
        size = content[position + 4 : position + 8].ljust(4, b"\0")
        length = int.from_bytes(size, "little", signed=True)
        if content[position : position + 4] == b"EXIF":
            start = position + 8
            # some writers put the name of JPEG's segment before it
            return start + 6 * (content[start : start + 6] == b"Exif\0\0")
        if length < 0 or position >= len(content):
            return None
        position += 8 + length + length % 2
    return None


def _in_tiff(content: bytes, start: int) -> int:
    """Return the orientation that the first directory of a TIFF structure names."""
    mark = content[start : start + 4]
    if mark not in (b"II*\0", b"MM\0*"):
        return UPRIGHT
    little = mark == b"II*\0"

    def number(position: int, size: int) -> int:
        found = content[position : position + size].ljust(size, b"\0")
        return int.from_bytes(found, "little" if little else "big")

    directory = start + number(start + 4, 4)
    for entry in _entries(content, directory + 2, number(directory, 2)):
        tag, kind, count = number(entry, 2), number(entry + 2, 2), number(entry + 4, 4)
        if tag == _TAG and kind in (_SHORT, _LONG) and count == 1:
            value = number(entry + 8, 2 if kind == _SHORT else 4)
            # the first counts
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def _entries(content: bytes, first: int, count: int) -> Iterator[int]:
    """Yield where the entries of a directory begin that the file holds as a whole."""
    for number in range(count):
        if first + 12 * number + 12 > len(content):
            return
        yield first + 12 * number
