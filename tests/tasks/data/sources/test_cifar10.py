"""CIFAR-10's batches become colour images with their labels; a pickle is never executed."""

import gzip
import os
import pickle
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.contract import BadInput, NoInput
from tasks.data.sources.array_pickle import UnsafePickle, load_arrays

from . import python2_pickle

TakeIn = Callable[..., Any]
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
PLANES = PIXELS.transpose(0, 3, 1, 2).reshape(7, 3072)
LABELS = [6, 9, 9, 4, 1, 1, 2]
NAMES = ["train/00000.png", "train/00001.png", "train/00002.png", "train/00003.png"]
NAMES += ["train/00004.png", "test/00000.png", "test/00001.png"]
PARTS = [("data_batch_1", 0), ("data_batch_2", 1), ("data_batch_3", 2), ("data_batch_4", 3)]
PARTS += [("data_batch_5", 4), ("test_batch", 5)]


def _batch(first: int, last: int) -> dict[bytes, Any]:
    return {
        b"batch_label": b"a batch",
        b"labels": LABELS[first:last],
        b"data": PLANES[first:last],
        b"filenames": [b"picture_%d.png" % number for number in range(first, last)],
    }


def _write(folder: Path, dumps: Callable[[Any], bytes] = python2_pickle.dumps) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, first in PARTS:
        last = 7 if name == "test_batch" else first + 1
        (folder / name).write_bytes(dumps(_batch(first, last)))
    return folder


def _check(tmp_path: Path, table: Any) -> None:
    assert table["image_id"].tolist() == NAMES
    assert table["split"].tolist() == ["train"] * 5 + ["test"] * 2
    named = ["frog", "truck", "truck", "deer", "automobile", "automobile", "bird"]
    assert table["label"].tolist() == named
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        with Image.open(tmp_path / "out/images" / name) as image:
            assert np.array_equal(np.asarray(image), pixels)


def test_batches_of_python_2_come_out_as_they_went_in(tmp_path: Path, take_in: TakeIn) -> None:
    _, table = take_in("cifar10", _write(tmp_path / "source"))
    _check(tmp_path, table)
    assert table.loc[6, ["batch", "published_name"]].tolist() == ["test_batch", "picture_6.png"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_batches_of_python_3_are_read_too(tmp_path: Path, take_in: TakeIn, protocol: int) -> None:
    def dumps(batch: Any) -> bytes:
        named = {key.decode(): value for key, value in batch.items()}
        return pickle.dumps(named, protocol=protocol)

    _check(tmp_path, take_in("cifar10", _write(tmp_path / "source", dumps))[1])


def test_an_archive_as_published_is_read_from_http(
    tmp_path: Path, take_in: TakeIn, address: str
) -> None:
    _write(tmp_path / "made")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made", arcname="cifar-10-batches-py")
    _check(tmp_path, take_in("cifar10", f"{address}/cifar-10-python.tar.gz")[1])
    _check(tmp_path, take_in("cifar10", f"{address}/made")[1])


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    folder = tmp_path / "binary"
    folder.mkdir()
    records = [bytes([label]) + row.tobytes() for label, row in zip(LABELS, PLANES, strict=True)]
    for name, first in PARTS:
        rows = records[first:] if name == "test_batch" else records[first : first + 1]
        (folder / f"{name}.bin").write_bytes(b"".join(rows))
    return folder


def test_the_binary_version_is_read(tmp_path: Path, take_in: TakeIn, binary: Path) -> None:
    _, table = take_in("cifar10", binary, version="binary")
    _check(tmp_path, table)
    assert table["published_name"].isna().all()


def test_a_damaged_binary_batch_is_named(take_in: TakeIn, binary: Path) -> None:
    path = binary / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(BadInput, match=r"data_batch_3.bin: has 3072 bytes, no multiple of 3073"):
        take_in("cifar10", binary, version="binary")
    path.write_bytes(bytes([10]) + whole[1:])
    with pytest.raises(BadInput, match=r"data_batch_3.bin: label 10 of image 0 has no name"):
        take_in("cifar10", binary, version="binary")
    path.unlink()
    with pytest.raises(NoInput, match=r"holds no file data_batch_3\.bin"):
        take_in("cifar10", binary, version="binary")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({b"labels": [6, 1]}, "holds 1 images but 2 labels"),
        ({b"labels": [10]}, "label 10 of image 0 has no name; source.class_names has 10"),
        ({b"labels": [-1]}, "label -1 of image 0 has no name"),
        ({b"labels": [True]}, "'labels' is no list of whole numbers"),
        ({b"labels": None}, "'labels' is no list of whole numbers"),
        ({b"data": PLANES[:1, :-1]}, r"'data' is an array of \(1, 3071\)"),
        ({b"data": PLANES[0]}, r"'data' is an array of \(3072,\)"),
        ({b"data": PLANES[:0], b"labels": []}, r"'data' is an array of \(0, 3072\)"),
        ({b"data": b"bytes"}, "'data' is a bytes"),
        ({b"data": PLANES[:1].astype("f8")}, r"of something else than bytes \(uint8\)"),
        ({b"filenames": [b"a", b"b"]}, "'filenames' is no list of 1 names"),
        ({b"filenames": [7]}, "'filenames' holds something else than texts"),
    ],
)
def test_a_batch_that_is_wrong_is_named(
    tmp_path: Path, take_in: TakeIn, changed: dict[bytes, Any], message: str
) -> None:
    source = _write(tmp_path / "source")
    content = python2_pickle.dumps(_batch(2, 3) | changed)
    (source / "data_batch_3").write_bytes(content)
    with pytest.raises(BadInput, match=f"^data_batch_3: .*{message}"):
        take_in("cifar10", source)


def test_a_batch_that_is_too_large_is_not_read(tmp_path: Path, take_in: TakeIn) -> None:
    source = _write(tmp_path / "source")
    with (source / "data_batch_1").open("r+b") as stream:
        stream.truncate(300 * 1024 * 1024)
    with pytest.raises(BadInput, match="has 314572800 bytes; a batch may have 268435456"):
        take_in("cifar10", source)


class _Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_would_run_something_is_refused(
    tmp_path: Path, take_in: TakeIn, protocol: int
) -> None:
    source, marker = _write(tmp_path / "source"), tmp_path / "was here"
    content = pickle.dumps({"data": _Runs(marker), "labels": [1]}, protocol=protocol)
    (source / "data_batch_1").write_bytes(content)
    with pytest.raises(BadInput, match=r"^data_batch_1: holds more than arrays: .*mkdir; nothing"):
        take_in("cifar10", source)
    assert not marker.exists()


ARRAY = pickle.dumps({b"data": PLANES[:1], b"labels": [1]}, protocol=4)


def _hash_bomb() -> bytes:
    nested = b")" + b"".join(b"\x94h%c\x86" % number for number in range(40))
    return b"\x80\x04}" + nested + b"K\x01s."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no pickle of arrays"),
        (b"\x80\x02}", "is no pickle of arrays"),
        (ARRAY[:-400], "is no pickle of arrays"),
        (gzip.compress(ARRAY, mtime=0), "instruction|is no pickle of arrays"),
        (b"\x80\x02]q\x00.", "holds a list where a dict is expected"),
        (b"cposix\nsystem\n(S'true'\ntR.", "asks for posix.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "asks for builtins.eval"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "asks for numpy.core.multiarray.fromfile"),
        (b"cnumpy\nload\n.", "asks for numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0bcore.dtypes\x93.", "asks for numpy.core.dtypes"),
        (b"ios\nsystem\n(S'true'\no.", "instruction INST"),
        (b"(cnumpy\ndtype\no.", "instruction OBJ"),
        (b"cnumpy\nndarray\n)\x81.", "instruction NEWOBJ"),
        (b"\x82\x01.", "instruction EXT1"),
        (b"Pname\n.", "instruction PERSID"),
        (b"cnumpy\nndarray\n(K\x01tR.", "calls ndarray"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "is damaged: memo 2147483647"),
        (b"\x80\x02T\xff\xff\xff\x7fab.", "is no pickle of arrays"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00ab.", "is no pickle of arrays"),
        (_hash_bomb(), "33 tuples"),
        # numbers of one and the same hash
        (pickle.dumps({n * (2**61 - 1): 0 for n in range(9)}), "number of more than 60 bits"),
        (b"(dI2305843009213693951\nI0\ns.", "number of more than 60 bits"),
        (ARRAY.replace(b"\x8c\x02u1", b"\x8c\x02O8"), "something else than bytes"),
        (ARRAY.replace(b"M\x00\x0c", b"M\xff\xff"), "is no pickle of arrays: cannot reshape"),
    ],
    ids=lambda value: value if isinstance(value, str) else "content",
)
def test_a_pickle_that_is_crafted_or_damaged_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(UnsafePickle, match=message) as error:
        load_arrays(content)
    assert "\n" not in str(error.value)


def test_what_the_stand_ins_are_told_changes_nothing_for_the_next_file() -> None:
    # BUILD with a state for the stand-in itself instead of an array
    crafted = b"\x80\x02cnumpy\ndtype\n}U\x04nameU\x06_reconstructsb."
    with pytest.raises(UnsafePickle):
        load_arrays(crafted)
    assert np.array_equal(load_arrays(ARRAY)[b"data"], PLANES[:1])


def test_what_numpy_itself_pickled_is_read_in_either_order() -> None:
    for order in "CF":
        array = np.asarray(PLANES[:3], order=order)  # type: ignore[call-overload]
        for protocol in (3, 4, 5):
            buffer = BytesIO()
            pickle.dump({"data": array}, buffer, protocol=protocol)
            assert np.array_equal(load_arrays(buffer.getvalue())["data"], array)
