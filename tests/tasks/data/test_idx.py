"""IDX files become images, labels and a split; damaged ones are refused."""

import gzip
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from struct import pack

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.contract import BadInput, NoInput
from tasks.data.ingest import ingest
from tasks.data.sources import open_source
from tasks.spec import Idx

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
LABELS = bytes([0, 1, 2, 0, 1, 2])
NAMES = ["T-shirt/top", "Trouser", "Pullover"]


def _write(folder: Path, **replaced: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    contents = {
        "train-images-idx3-ubyte.gz": pack(">4I", 2051, 4, 4, 5) + PIXELS[:4].tobytes(),
        "train-labels-idx1-ubyte.gz": pack(">2I", 2049, 4) + LABELS[:4],
        "t10k-images-idx3-ubyte.gz": pack(">4I", 2051, 2, 4, 5) + PIXELS[4:].tobytes(),
        "t10k-labels-idx1-ubyte.gz": pack(">2I", 2049, 2) + LABELS[4:],
    }
    for name, content in contents.items():
        content = replaced.get(name.split("-ubyte")[0].replace("-", "_"), content)
        (folder / name).write_bytes(gzip.compress(content))
    return folder


def _ingest(tmp_path: Path, uri: str) -> pd.DataFrame:
    out = tmp_path / "out"
    out.mkdir()
    reader = open_source(Idx(uri=uri, class_names=NAMES))
    ingest(reader, out, scratch=tmp_path / "scratch")
    return pd.read_parquet(out / "metadata.parquet")


def test_images_labels_and_split_come_out_as_they_went_in(tmp_path: Path) -> None:
    table = _ingest(tmp_path, str(_write(tmp_path / "source")))
    assert table["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert table["label"].tolist() == [NAMES[value] for value in LABELS]
    for image_id, pixels in zip(table["image_id"], PIXELS, strict=True):
        with Image.open(tmp_path / "out/images" / image_id) as image:
            assert np.array_equal(np.asarray(image), pixels)


def test_files_need_not_be_zipped(tmp_path: Path) -> None:
    source = _write(tmp_path / "source")
    for path in source.iterdir():
        path.write_bytes(gzip.decompress(path.read_bytes()))
    assert len(_ingest(tmp_path, str(source))) == 6


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"train_images_idx3": pack(">4I", 2049, 4, 4, 5)}, "its magic number is 2049, not 2051"),
        ({"train_labels_idx1": pack(">2I", 2049, 3) + LABELS[:3]}, "4 images but .* 3 labels"),
        ({"train_images_idx3": pack(">4I", 2051, 4, 4, 5) + bytes(79)}, "ends early"),
        ({"train_images_idx3": pack(">4I", 2051, 4, 4, 5) + bytes(81)}, "goes on after its 4"),
        (
            {"train_labels_idx1": pack(">2I", 2049, 4) + b"\0\1\2\3"},
            "label 3 of image 3 has no name",
        ),
        ({"train_images_idx3": pack(">4I", 2051, 4, 99999, 99999)}, "99999 x 99999 pixels"),
        ({"train_images_idx3": b"\0\0"}, "ends early"),
        ({"t10k_images_idx3": pack(">4I", 2051, 0, 4, 5)}, "holds nothing"),
    ],
)
def test_a_file_that_is_wrong_is_named(
    tmp_path: Path, replaced: dict[str, bytes], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        _ingest(tmp_path, str(_write(tmp_path / "source", **replaced)))


def test_a_damaged_gzip_and_an_absent_file_are_named(tmp_path: Path) -> None:
    source = _write(tmp_path / "source")
    path = source / "t10k-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-6])
    with pytest.raises(BadInput, match=r"t10k-labels-idx1-ubyte\.gz: is damaged"):
        _ingest(tmp_path, str(source))
    path.unlink()
    with pytest.raises(NoInput, match=r"holds no file t10k-labels-idx1-ubyte\.gz"):
        open_source(Idx(uri=str(source), class_names=NAMES)).open(tmp_path / "again")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    _write(tmp_path / "served")
    handler = partial(Quiet, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/served"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_address_is_fetched_file_by_file(tmp_path: Path, address: str) -> None:
    reader = open_source(Idx(uri=address, class_names=NAMES))
    before = reader.state()
    assert len(_ingest(tmp_path, address)) == 6
    assert reader.state() == before
    _write(tmp_path / "served", train_labels_idx1=pack(">2I", 2049, 4) + b"\1\1\1\1" + b"\0")
    assert reader.state() != before
