"""Verification tells what can be used from what cannot, and why."""

import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from struct import pack

import pytest
from PIL import Image

from tasks.data import images
from tasks.data.images import inspect, inspect_all, inspect_bytes, place


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "L"),
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "I;16"),
        ("PNG", "1"),
        ("PNG", "LA"),
        ("JPEG", "L"),
        ("JPEG", "RGB"),
        ("GIF", "L"),
        ("BMP", "RGB"),
    ],
)
def test_what_serving_decodes_is_ok(
    image_bytes: Callable[..., bytes], kind: str, mode: str
) -> None:
    content = image_bytes(kind=kind, mode=mode)
    facts = inspect_bytes(content)
    assert (facts.status, facts.reason) == ("ok", "")
    assert (facts.width, facts.height, facts.bytes) == (24, 24, len(content))
    assert facts.mode is not None and facts.sha256 is not None and len(facts.sha256) == 64


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", "undecodable", "empty"),
        (b"<!DOCTYPE html><h1>404</h1>", "not_an_image", "b'<!DOCTYPE ht'"),
        (b"\x1f\x8b" + bytes(50), "not_an_image", "no known image format"),
        (bytes(1000), "not_an_image", "no known image format"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, status: str, reason: str) -> None:
    facts = inspect_bytes(content)
    assert facts.status == status
    assert reason in facts.reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_file_is_never_ok(image_bytes: Callable[..., bytes], kind: str, share: float) -> None:
    content = image_bytes(kind=kind, size=96)
    facts = inspect_bytes(content[: int(len(content) * share)])
    assert facts.status == "truncated"
    assert facts.reason


def test_a_flipped_byte_in_the_pixels_is_found(image_bytes: Callable[..., bytes]) -> None:
    content = bytearray(image_bytes(size=96))
    content[len(content) // 2] ^= 0xFF
    assert inspect_bytes(bytes(content)).status in ("undecodable", "truncated")


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_a_format_that_serving_cannot_decode_is_unsupported(
    image_bytes: Callable[..., bytes], kind: str
) -> None:
    facts = inspect_bytes(image_bytes(kind=kind, mode="RGB"))
    assert facts.status == "unsupported"
    assert f"format {kind} cannot be served; convert it to" in facts.reason


def test_an_image_of_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    buffer = BytesIO()
    Image.new("L", (200, 100)).save(buffer, "PNG")
    facts = inspect_bytes(buffer.getvalue())
    assert facts.status == "too_large"
    assert "200 x 100 pixels" in facts.reason


def test_a_bomb_that_pillow_itself_refuses_is_too_large() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100)))
    assert inspect_bytes(content).status == "too_large"


def test_an_unreadable_file_is_undecodable(tmp_path: Path) -> None:
    folder = tmp_path / "folder.png"
    folder.mkdir()
    assert inspect(folder).status == "undecodable"


def test_many_are_verified_in_order(tmp_path: Path, image_bytes: Callable[..., bytes]) -> None:
    paths: list[Path | None] = []
    for number in range(20):
        path = tmp_path / f"{number}.png"
        path.write_bytes(image_bytes(number, size=10 + number))
        paths.append(None if number == 3 else path)
    found = list(inspect_all(paths))
    assert [f.width if f else None for f in found] == [
        None if number == 3 else 10 + number for number in range(20)
    ]


def test_a_file_is_linked_or_copied_into_a_new_folder(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("x")
    place(source, tmp_path / "b/c/d")
    assert (tmp_path / "b/c/d").samefile(source)
    with pytest.raises(FileNotFoundError):
        place(tmp_path / "absent", tmp_path / "e")
