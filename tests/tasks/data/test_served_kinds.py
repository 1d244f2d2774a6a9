"""What ingest calls usable is what the exported graph reads as it is meant."""

import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from tasks.data.images import inspect, inspect_bytes
from tasks.serving.image_files import refusal
from tasks.training.export import export_model
from tasks.training.images import decode
from tests.tasks.data import image_zoo as zoo

NEARLY = 4.0
"""Mean difference of two JPEG decoders, of 255."""

_SURVIVES = {"GIF without its last byte", "GIF animated, cut in its second picture"}
"""Nothing of the picture that is used got lost."""


def _meant(content: bytes) -> NDArray[np.float64] | None:
    try:
        with Image.open(BytesIO(content)) as image:
            if image.mode.startswith("I"):
                grey = np.asarray(image).astype(np.float64) // 256
                return np.repeat(grey[..., None], 3, axis=-1)
            return np.asarray(image.convert("RGB")).astype(np.float64)
    except Exception:  # decoders raise nearly anything
        return None


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the function of an exported model that takes files and returns the mean colours."""
    images = keras.Input((zoo.HEIGHT, zoo.WIDTH, 3))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    folder = tmp_path_factory.mktemp("model") / "saved"
    export_model(model, folder, name="m", classes=["r", "g", "b"], positive=None)
    return tf.saved_model.load(str(folder)).signatures["serving_default"]


def _served(graph: Any, content: bytes) -> NDArray[np.float32] | None:
    try:
        return graph(image_bytes=tf.constant([content]))["probabilities"].numpy()[0]
    except tf.errors.OpError:
        return None


def _reads_as_meant(graph: Any, content: bytes) -> bool:
    """Compare sizes and pixels by the decoder, and the mean by the exported graph."""
    served, meant = _served(graph, content), _meant(content)
    if served is None or meant is None:
        return False
    pixels = decode(tf.constant(content), channels=3).numpy()
    if pixels.shape != meant.shape or np.abs(pixels - meant).mean() > NEARLY:
        return False
    assert np.abs(served - meant.mean(axis=(0, 1))).max() < NEARLY
    return True


def _whole() -> list[tuple[str, bytes]]:
    return [*zoo.written_by_pillow(), *zoo.variants()]


def test_a_whole_file_is_usable_exactly_when_the_exported_graph_reads_it_as_it_is_meant(
    graph: Any,
) -> None:
    wrong = {}
    for name, content in _whole():
        facts = inspect_bytes(content)
        if (facts.status == "ok") != _reads_as_meant(graph, content):
            wrong[name] = (facts.status, facts.reason)
    # all its values lie below 256: read as meant, but nearly black
    dark = wrong.pop("PNG I;16")
    assert dark[1].startswith("16 bits a pixel, but all below 4096")
    assert wrong == {}


def test_a_damaged_file_is_never_usable() -> None:
    statuses = {name: inspect_bytes(content).status for name, content in zoo.damaged()}
    assert {name for name, status in statuses.items() if status == "ok"} == _SURVIVES


@pytest.mark.parametrize("kind", ["JPEG", "JPEG progressive"])
def test_a_jpeg_that_ends_anywhere_is_never_usable_for_all_its_end_marker(kind: str) -> None:
    content = zoo.encode("JPEG", quality=95, progressive="progressive" in kind)
    start = content.index(b"\xff\xda") + 14
    cut = [content[:end] + b"\xff\xd9" for end in range(start, len(content) - 2)]
    assert {inspect_bytes(each).status for each in cut} <= {"truncated", "undecodable"}


def test_a_camera_s_jpeg_of_several_pictures_is_usable_as_the_first() -> None:
    first, second = Image.fromarray(zoo.gradient()), Image.new("RGB", (30, 20))
    content = zoo.encode("MPO", first, save_all=True, append_images=[second])
    facts = inspect_bytes(content)
    assert (facts.status, facts.width, facts.height) == ("ok", zoo.WIDTH, zoo.HEIGHT)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("largest", "status"), [(0, "ok"), (200, "unsupported"), (4095, "unsupported"), (4096, "ok")]
)
def test_16_bits_that_serving_would_see_as_black_are_set_aside_in_every_colour_type(
    channels: int, largest: int, status: str
) -> None:
    pixels = np.full((8, 9, channels), largest, np.uint16)
    if channels in (2, 4):
        pixels[..., -1] = 65535
    facts = inspect_bytes(zoo.png(pixels))
    assert facts.status == status
    assert ("which are nearly black" in facts.reason) == (status != "ok")


def test_an_animated_webp_never_reaches_tensorflow_s_decoder(graph: Any) -> None:
    content = dict(zoo.variants())["WEBP animated"]
    assert inspect_bytes(content).reason == refusal(content)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
        graph(image_bytes=tf.constant([content]))


def test_a_jpeg_xl_is_named_as_what_it_is(graph: Any) -> None:
    facts = inspect_bytes(zoo.JPEG_XL)
    assert facts.reason == (
        "JPEG XL cannot be served; convert it to one of JPEG, PNG, GIF, BMP, WebP"
    )
    assert _served(graph, zoo.JPEG_XL) is None


@pytest.mark.data
def test_no_real_image_is_taken_for_damaged(shared_data: Path) -> None:
    suffixes = {".jpg", ".jpeg", ".png"}
    found = [path for path in shared_data.rglob("*.*") if path.suffix.lower() in suffixes]
    assert len(found) > 1000
    assert [(path.name, each.reason) for path in found if (each := inspect(path)).reason] == []


def test_a_png_that_unpacks_into_far_more_than_its_rows_takes_no_memory() -> None:
    pixels = np.zeros((64, 64, 3), np.uint16)
    whole = zoo.png(pixels)
    start = whole.index(b"IDAT") - 4
    bomb = zlib.compress(bytes(200_000_000))
    content = whole[:start] + zoo.png_chunk(b"IDAT", bomb) + whole[-12:]
    tracemalloc.start()
    try:
        inspect_bytes(content)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
