"""EXIF's orientation, in every place and form that files have it, by the graph that is exported."""

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any, Literal

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tasks.data.exif import orientation as read
from tasks.data.images import inspect_bytes
from tasks.training.export import export_model
from tasks.training.images import decode, load_pixels, sees_upright
from tasks.training.orientation import orientation
from tests.tasks.data import image_zoo as zoo

TAG = 0x0112
orientation_in_graph = tf.function(orientation, input_signature=[tf.TensorSpec([], tf.string)])


def _orientation(content: bytes) -> int:
    return int(orientation_in_graph(tf.constant(content)))


def _tiff(
    turned: int, *, order: Literal["<", ">"] = "<", before: int = 0, at: int = 8, kind: int = 3
) -> bytes:
    """Return a TIFF structure with an orientation behind so many other entries."""
    start = (b"II" if order == "<" else b"MM") + pack(f"{order}HI", 42, at)
    others = [pack(f"{order}HHII", 0x0200 + number, 4, 1, 7) for number in range(before)]
    value = pack(f"{order}HHIHH", TAG, kind, 1, turned, 0)
    entries = [*others, value]
    body = pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return start.ljust(at, b"\0") + body


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + pack(">H", len(body) + 2) + body


def _jpeg(*segments: bytes) -> bytes:
    plain = zoo.encode("JPEG", quality=95, subsampling=0)
    return plain[:2] + b"".join(segments) + plain[2:]


def _exif(tiff: bytes) -> bytes:
    return _segment(0xE1, b"Exif\0\0" + tiff)


def _mpo(tiff: bytes) -> bytes:
    first, second = Image.fromarray(zoo.gradient()), Image.new("RGB", (30, 20))
    options = {"exif": b"Exif\0\0" + tiff, "quality": 95, "subsampling": 0}
    return zoo.encode("MPO", first, save_all=True, append_images=[second], **options)


def _png(tiff: bytes, *, behind: bool = False) -> bytes:
    chunk = zoo.png_chunk(b"eXIf", tiff)
    if not behind:
        return zoo.png(zoo.gradient(), before=chunk)
    whole = zoo.png(zoo.gradient())
    return whole[:-12] + chunk + whole[-12:]


def _webp(tiff: bytes) -> bytes:
    return zoo.encode("WEBP", lossless=True, exif=b"Exif\0\0" + tiff)


def _webp_with_the_name_of_jpeg_s_segment(tiff: bytes) -> bytes:
    content = _webp(b"\0" * 6 + tiff)
    start = content.rindex(b"EXIF") + 8
    return content[:start] + b"Exif\0\0" + content[start + 6 :]


WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "JPEG": lambda tiff: _jpeg(_exif(tiff)),
    "JPEG, JFIF first": lambda tiff: _jpeg(_segment(0xE0, b"JFIF\0" + bytes(9)), _exif(tiff)),
    "JPEG, behind XMP": lambda tiff: _jpeg(
        _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='3'/>"), _exif(tiff)
    ),
    "JPEG, behind a profile": lambda tiff: _jpeg(
        _segment(0xE2, b"ICC_PROFILE\0\1\1" + b"Exif" * 15_000), _exif(tiff)
    ),
    "JPEG, behind fill bytes": lambda tiff: _jpeg(b"\xff\xff\xff" + _exif(tiff)),
    "MPO": _mpo,
    "PNG": _png,
    "PNG, behind the pixels": lambda tiff: _png(tiff, behind=True),
    "WebP": _webp,
    "WebP, named again": _webp_with_the_name_of_jpeg_s_segment,
}


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_an_image_is_put_upright_as_pillow_does_it(
    writer: Callable[[bytes], bytes], turned: int
) -> None:
    content = writer(_tiff(turned))
    with Image.open(BytesIO(content)) as image:
        meant = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    pixels = decode(tf.constant(content), channels=3).numpy()
    assert pixels.shape == meant.shape
    # JPEG decoders differ a little
    assert np.abs(pixels - meant).mean() < 4
    facts = inspect_bytes(content)
    assert (facts.status, facts.orientation) == ("ok", turned)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("before", [0, 1, 40])
@pytest.mark.parametrize("at", [8, 9, 300])
def test_the_tag_is_found_wherever_the_directory_has_it(
    order: Literal["<", ">"], before: int, at: int
) -> None:
    tiff = _tiff(6, order=order, before=before, at=at)
    assert [_orientation(each) for each in (_jpeg(_exif(tiff)), _png(tiff), _webp(tiff))] == [6] * 3


def _thumbnail_turned() -> bytes:
    """Return EXIF data whose second directory, of the thumbnail, has an orientation."""
    first = b"II" + pack("<HI", 42, 8) + pack("<H", 0) + pack("<I", 14)
    return first + pack("<H", 1) + pack("<HHIHH", TAG, 3, 1, 6, 0) + bytes(4)


NONE_OR_DAMAGED = {
    "none": _jpeg(),
    "empty": _jpeg(_exif(b"")),
    "no byte order": _jpeg(_exif(b"XX" + _tiff(6)[2:])),
    "a wrong magic number": _jpeg(_exif(b"II" + pack("<H", 43) + _tiff(6)[4:])),
    "cut in the directory": _jpeg(_exif(_tiff(6, before=3)[:30])),
    "a directory outside": _jpeg(_exif(b"II" + pack("<HI", 42, 1 << 20))),
    "a directory far outside": _jpeg(_exif(b"II" + pack("<HI", 42, 0xFFFFFFF0))),
    "a value of 0": _jpeg(_exif(_tiff(0))),
    "a value of 9": _jpeg(_exif(_tiff(9))),
    "a huge value": _jpeg(_exif(_tiff(65535))),
    "another type": _jpeg(_exif(_tiff(6, kind=2))),
    "of the thumbnail only": _jpeg(_exif(_thumbnail_turned())),
    "in a comment": _jpeg(_segment(0xFE, b"\xff\xe1\0\x40Exif\0\0" + _tiff(6))),
    "in a segment of another kind": _jpeg(_segment(0xE3, b"Exif\0\0" + _tiff(6))),
    "XMP only": _jpeg(
        _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/> Exif\0")
    ),
    "of the second picture": _jpeg() + _jpeg(_exif(_tiff(6))),
    "PNG text": zoo.png(zoo.gradient(), before=zoo.png_chunk(b"tEXt", b"a\0eXIf" + _tiff(6))),
    "PNG, empty": _png(b""),
    "WebP, empty": _webp(b""),
    "WebP without": zoo.encode("WEBP"),
    "GIF": zoo.encode("GIF") + b"Exif\0\0" + _tiff(6),
    "BMP": zoo.encode("BMP"),
    "no image": b"Exif\0\0" + _tiff(6),
    "nothing": b"",
    "a start alone": b"\xff\xd8\xff\xe1\0\x40Exif\0\0",
    "a segment of no length": b"\xff\xd8\xff\xe1\0\0Exif\0\0" + _tiff(6),
}


@pytest.mark.parametrize("content", NONE_OR_DAMAGED.values(), ids=NONE_OR_DAMAGED)
def test_what_cannot_be_understood_is_upright(content: bytes) -> None:
    assert _orientation(content) == 1
    assert inspect_bytes(content).orientation == 1


def _odd_tiffs() -> dict[str, bytes]:
    """Types, counts, places and repetitions of the entry, in either order of bytes."""
    found = {}
    for order in ("<", ">"):
        for kind in range(14):
            for count in (0, 1, 2, 1 << 31):
                layout = {1: "BBBB", 6: "BBBB", 7: "BBBB", 4: "I", 9: "I", 13: "I"}.get(kind, "HH")
                value = pack(order + layout, 6, *[0] * (len(layout) - 1))
                entry = pack(f"{order}HHI", TAG, kind, count) + value
                found[f"{order} type {kind}, {count} of them"] = _tiff_of(order, [entry])
        six = pack(f"{order}HHIHH", TAG, 3, 1, 6, 0)
        three = pack(f"{order}HHIHH", TAG, 3, 1, 3, 0)
        text = pack(f"{order}HHI", TAG, 2, 1) + b"6\0\0\0"
        huge = pack(f"{order}HHII", TAG, 4, 1, 6 + (1 << 16))
        found |= {
            f"{order} twice": _tiff_of(order, [six, three]),
            f"{order} a text before": _tiff_of(order, [text, six]),
            f"{order} too large a number": _tiff_of(order, [huge]),
            f"{order} fewer entries than said": _tiff_of(order, [six], said=50),
            f"{order} no entries said": _tiff_of(order, [six], said=0),
            f"{order} a directory at the start": _tiff_of(order, [six], at=0),
            f"{order} a directory far outside": _tiff_of(order, [six], at=0xFFFFFFF0),
        }
    return found


def _tiff_of(order: str, entries: list[bytes], *, said: int | None = None, at: int = 8) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    count = pack(f"{order}H", len(entries) if said is None else said)
    return mark + pack(f"{order}HI", 42, at) + count + b"".join(entries) + bytes(4)


def test_ingest_and_the_served_graph_read_the_same_orientation() -> None:
    files = {
        f"{form}, {name}": writer(tiff)
        for name, tiff in _odd_tiffs().items()
        for form, writer in (("JPEG", WRITERS["JPEG"]), ("PNG", _png), ("WebP", _webp))
    }
    tiff = _tiff(6)
    files |= {
        "two segments": _jpeg(_exif(tiff), _exif(_tiff(3))),
        "an upright segment first": _jpeg(_exif(_tiff(1)), _exif(tiff)),
        "another filling": _jpeg(_segment(0xE1, b"Exif\0\xff" + tiff)),
        "behind comments": _jpeg(*[_segment(0xFE, b"c" * 65_533)] * 3, _exif(tiff)),
        "behind too many comments": _jpeg(*[_segment(0xFE, b"c" * 65_533)] * 5, _exif(tiff)),
        "behind fill bytes": _jpeg(b"\xff" * 20_000 + _exif(tiff)),
        **{name: content for name, content in NONE_OR_DAMAGED.items()},
        **{f"{name}, whole": writer(tiff) for name, writer in WRITERS.items()},
        **{f"cut at {end}": _jpeg(_exif(tiff))[:end] for end in range(2, 60)},
    }
    other = {
        name: (read(content), _orientation(content))
        for name, content in files.items()
        if read(content) != _orientation(content)
    }
    assert other == {}
    turned = {name for name, content in files.items() if read(content) == 6}
    assert {"JPEG, < type 3, 1 of them", "PNG, > type 4, 1 of them", "two segments"} <= turned
    assert not {
        name for name in turned if "type" in name and not re.search("type [34], 1 of", name)
    }


def test_every_cut_of_exif_data_is_taken_without_complaint() -> None:
    content = _jpeg(_exif(_tiff(6, order=">", before=2)))
    end = content.index(b"Exif") + 80
    assert {_orientation(content[:cut]) for cut in range(end)} <= {1, 6}


@pytest.fixture(scope="module")
def corners() -> keras.Model:
    """Return a model whose answer is the colours of the upper left corner."""
    images = keras.Input((8, 8, 3))
    cropped = keras.layers.Cropping2D(((0, 7), (0, 7)))(images)
    return keras.Model(images, keras.layers.Flatten()(cropped))


@pytest.mark.parametrize("setting", ["apply", "ignore"])
def test_training_and_the_exported_model_see_the_same_as_the_setting_says(
    corners: keras.Model, setting: Literal["apply", "ignore"], tmp_path: Path
) -> None:
    pixels: NDArray[Any] = np.zeros((8, 8, 3), np.uint8)
    pixels[0, 0], pixels[-1, 0] = (255, 0, 0), (0, 255, 0)
    files = [
        zoo.png(pixels, before=zoo.png_chunk(b"eXIf", _tiff(turned))) for turned in range(1, 9)
    ]
    export_model(
        corners,
        tmp_path / "model",
        name="m",
        classes=["r", "g", "b"],
        positive=None,
        exif_orientation=setting,
    )
    assert sees_upright(tmp_path / "model") == (setting == "apply")
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    answers = served(image_bytes=tf.constant(files))["probabilities"].numpy()
    trained = load_pixels(
        lambda: files,
        names=[str(number) for number in range(8)],
        image_size=(8, 8),
        channels=3,
        spill=tmp_path / "pixels.npy",
        upright=setting == "apply",
    )
    np.testing.assert_array_equal(answers, trained[:, 0, 0])
    red_is_left = [1, 5] if setting == "apply" else list(range(1, 9))
    assert [turned for turned in range(1, 9) if answers[turned - 1, 0] == 255] == red_is_left
    green_is_left = [4, 6] if setting == "apply" else []
    assert [turned for turned in range(1, 9) if answers[turned - 1, 1] == 255] == green_is_left


def test_a_model_exported_before_there_was_a_choice_takes_pixels_as_they_are(
    tmp_path: Path,
) -> None:
    (tmp_path / "model.json").write_text('{"classes": ["a"]}')
    assert not sees_upright(tmp_path)
