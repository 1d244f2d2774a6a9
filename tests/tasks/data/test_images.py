"""Verification tells what can be used from what cannot, and why."""

import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from PIL import Image

from tasks.data import images
from tasks.data.images import inspect, inspect_bytes, place, verifiers, verify_all
from tasks.serving.limits import limits_of
from tasks.spec.gate import Deploy


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
        (b"<!DOCTYPE html><h1>404</h1>", "not_an_image", "a web page"),
        (b"\x1f\x8b" + bytes(50), "not_an_image", "gzip data, no image"),
        (
            b"\x89PNG\r\n" + bytes(50),
            "not_an_image",
            "an image whose beginning is damaged",
        ),
        (bytes(1000), "not_an_image", "no known image format"),
    ],
)
def test_what_is_no_image_is_named_without_quoting_it(
    content: bytes, status: str, reason: str
) -> None:
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


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
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


def test_many_are_verified_in_order_and_the_usable_ones_placed(
    tmp_path: Path, image_bytes: Callable[..., bytes]
) -> None:
    images, target = tmp_path / "images", tmp_path / "target"
    (images / "sub").mkdir(parents=True)
    names: list[str | None] = []
    for number in range(20):
        name = f"{'sub/' if number % 2 else ''}{number}.png"
        (images / name).write_bytes(image_bytes(number, size=10 + number) if number != 7 else b"x")
        names.append(None if number == 3 else name)
    found = verify_all(names, images, target)
    assert [f.width if f else None for f in found] == [
        None if number in (3, 7) else 10 + number for number in range(20)
    ]
    placed = {path.relative_to(target).as_posix() for path in target.rglob("*.png")}
    assert placed == {name for name in names if name not in (None, "sub/7.png")}


def test_many_are_placed_side_by_side_into_folders_that_are_not_there_yet(
    tmp_path: Path, image_bytes: Callable[..., bytes]
) -> None:
    names = [f"{number % 7}/{number % 3}/{number}.png" for number in range(210)]
    for name in names:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes())
    with verifiers() as pool:
        parts = [names[start::30] for start in range(30)]
        made = [pool.submit(verify_all, p, tmp_path / "images", tmp_path / "out") for p in parts]
        facts = [fact for each in made for fact in each.result()]
    assert all(fact is not None and fact.status == "ok" for fact in facts)
    assert sum(1 for _ in (tmp_path / "out").rglob("*.png")) == 210


def test_a_file_is_linked_or_copied_into_a_new_folder(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("x")
    place(source, tmp_path / "b/c/d")
    assert (tmp_path / "b/c/d").samefile(source)
    with pytest.raises(FileNotFoundError):
        place(tmp_path / "absent", tmp_path / "e")


def _bmp(bits: int, *, masks: tuple[int, int, int] | None = None, header: int = 40) -> bytes:
    """Return a BMP of 4 x 4 pixels that Pillow reads, in a layout that Pillow does not write."""
    pixels = bytes(range(4 * bits // 8)) * 4
    compression = 3 if masks else 0
    rest = pack("<4I", *masks, 0xFF000000) if masks else b""
    body = pack("<IiiHHIIiiII", header, 4, 4, 1, bits, compression, len(pixels), 0, 0, 0, 0)
    body += rest.ljust(header - 40, b"\0") if header > 40 else rest
    offset = 14 + len(body)
    return b"BM" + pack("<IHHI", offset + len(pixels), 0, 0, offset) + body + pixels


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (_bmp(24), "ok"),
        (_bmp(32), "ok"),
        (_bmp(32, masks=(0xFF0000, 0xFF00, 0xFF), header=108), "ok"),
        # red and blue the other way round: TensorFlow would not notice
        (_bmp(32, masks=(0xFF, 0xFF00, 0xFF0000), header=108), "unsupported"),
        (_bmp(16), "unsupported"),
    ],
)
def test_a_bmp_is_taken_only_if_tensorflow_reads_it_as_it_is_meant(
    content: bytes, status: str
) -> None:
    assert inspect_bytes(content).status == status


def test_a_bmp_of_greys_is_taken(image_bytes: Callable[..., bytes]) -> None:
    assert inspect_bytes(image_bytes(kind="BMP", mode="L")).status == "ok"


def test_a_bmp_with_another_palette_is_quarantined(image_bytes: Callable[..., bytes]) -> None:
    content = image_bytes(kind="BMP", mode="L")
    inverted = bytes(255 - level for level in range(256) for _ in range(4))
    facts = inspect_bytes(content[:54] + inverted + content[54 + 1024 :])
    assert (facts.status, facts.reason) == (
        "unsupported",
        "BMP: the served graph reads other colours than are meant; convert it to PNG",
    )


@pytest.mark.parametrize(("largest", "status"), [(0, "ok"), (4095, "unsupported"), (65535, "ok")])
def test_16_bits_of_which_serving_would_see_nothing_are_quarantined(
    largest: int, status: str
) -> None:
    buffer = BytesIO()
    Image.fromarray(np.full((8, 8), largest, np.uint16)).save(buffer, "PNG")
    facts = inspect_bytes(buffer.getvalue())
    assert facts.status == status
    assert ("upper 8 bits" in facts.reason) == (status != "ok")


def test_a_link_is_placed_as_the_file_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"pixels")
    (tmp_path / "b.png").symlink_to("a.png")
    place(tmp_path / "b.png", tmp_path / "elsewhere" / "b.png")
    placed = tmp_path / "elsewhere" / "b.png"
    assert not placed.is_symlink()
    assert placed.read_bytes() == b"pixels"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"max_pixels": 500}, "600 pixels; the model server takes 500 (by deploy.max_pixels)"),
        ({"max_pixels": 600}, ""),
    ],
)
def test_an_image_that_the_model_server_would_refuse_is_of_no_use(fields, why):
    content = BytesIO()
    Image.new("L", (30, 20), 90).save(content, "PNG")
    facts = inspect_bytes(content.getvalue(), limits_of(Deploy(**fields)))
    assert (facts.status, facts.reason) == ("too_large" if why else "ok", why)


def test_the_memory_of_the_model_server_bounds_images_too():
    content = BytesIO()
    Image.new("1", (2500, 2000)).save(content, "PNG")
    facts = inspect_bytes(content.getvalue(), limits_of(Deploy(memory="1Gi")))
    assert facts.reason == "5000000 pixels; the model server takes 4000000 (by deploy.memory)"
