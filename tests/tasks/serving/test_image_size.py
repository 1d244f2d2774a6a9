"""The size of an image is read from its header as the decoders read it, and from nothing else."""

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from tasks.serving.image_size import MAX_SCANS, pixels_of, too_many_scans


def encoded(
    kind: str, mode: str = "RGB", size: tuple[int, int] = (37, 23), **options: Any
) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"exif": b"Exif\0\0" + b"\xff" * 500, "comment": b"\xff\xda" * 9}),
        ("GIF", "P", {}),
        ("GIF", "L", {}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGB", {"quality": 50}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"quality": 50}),
        ("WEBP", "RGB", {"quality": 50, "exif": b"Exif\0\0"}),
    ],
)
def test_every_kind_says_its_size(kind: str, mode: str, options: dict[str, Any]) -> None:
    assert pixels_of(encoded(kind, mode, **options)) == 37 * 23


def test_the_frames_of_an_animation_count_together() -> None:
    frames = [Image.new("L", (37, 23), colour) for colour in (0, 80, 160, 240)]
    for kind in ("GIF", "WEBP"):
        stream = io.BytesIO()
        frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
        assert pixels_of(stream.getvalue()) == 4 * 37 * 23


def test_a_header_without_a_picture_behind_it_counts_as_what_it_says() -> None:
    ihdr = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + ihdr
    assert pixels_of(png + struct.pack(">I", zlib.crc32(b"IHDR" + ihdr))) == 3_600_000_000
    gif = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0)
    assert pixels_of(gif + frame) == 3_600_000_000
    assert pixels_of(gif + (frame + b"\x02\x00") * 3 + b"\x3b") == 3 * 3_600_000_000
    bmp = b"BM" + bytes(16) + struct.pack("<ii", 60_000, -60_000) + bytes(28)
    assert pixels_of(bmp) == 3_600_000_000
    jpeg = b"\xff\xd8\xff\xff\xe0\x00\x04ab" + b"junk\xff\x00" + b"\xff\xc0\x00\x11\x08"
    assert pixels_of(jpeg + struct.pack(">HH", 60_000, 60_000)) == 3_600_000_000
    vp8x = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + bytes(4)
    assert pixels_of(vp8x + (59_999).to_bytes(3, "little") * 2) == 3_600_000_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_a_file_that_is_cut_anywhere_is_no_error(kind: str) -> None:
    whole = encoded(kind)
    found = {pixels_of(whole[:length]) for length in range(len(whole))}
    assert found <= {None, 37 * 23}


NO_PICTURES = [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40), b"\xff\xd8\xff\xd9"]


@pytest.mark.parametrize("content", [*NO_PICTURES, b"\xff\xd8" + b"\xff" * 99])
def test_what_has_no_size_must_not_be_decoded(content: bytes) -> None:
    assert pixels_of(content) is None


def test_many_passes_over_a_picture_are_noticed() -> None:
    plain = encoded("JPEG", progressive=True)
    assert not too_many_scans(plain)
    assert too_many_scans(plain[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" * MAX_SCANS)
