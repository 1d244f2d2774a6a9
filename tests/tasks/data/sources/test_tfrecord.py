"""TFRecord files as TensorFlow and TensorFlow Datasets write them become rows."""

import json
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from struct import pack
from typing import Any

import pytest
import tensorflow as tf

from tasks.contract import BadInput
from tasks.data.sources import embedded, open_source, record_file
from tasks.data.sources.record_file import masked_crc32c
from tasks.data.sources.tf_example import parse_example
from tasks.spec.sources import TFRecord

TakeIn = Callable[..., Any]
Encode = Callable[..., bytes]


def _feature(value: Any) -> Any:
    values = value if isinstance(value, list) else [value]
    if values and isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _example(features: dict[str, Any]) -> bytes:
    named = {name: _feature(value) for name, value in features.items()}
    example = tf.train.Example(features=tf.train.Features(feature=named))
    return bytes(example.SerializeToString())


def _write(path: Path, examples: Iterable[dict[str, Any] | bytes], zipped: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), zipped) as writer:
        for example in examples:
            writer.write(example if isinstance(example, bytes) else _example(example))
    return path.parent


def test_examples_become_rows(tmp_path: Path, take_in: TakeIn, image_bytes: Encode) -> None:
    images = [image_bytes(1), image_bytes(2, kind="JPEG")]
    common = {"name": "Zoë".encode(), "age": 7, "weight": 0.1}
    source = _write(
        tmp_path / "source/films-train.tfrecord",
        [
            {**common, "image": images[0], "sizes": [1, -2], "boxes": [0.1, 0.5]},
            {**common, "image": images[1], "sizes": [], "boxes": [], "age": 2**62, "weight": 7.0},
            {"image": b"", "age": []},
        ],
    )
    summary, table = take_in("tfrecord", source, max_missing=0.5)
    assert table["image_status"].tolist() == ["ok", "ok", "missing"]
    names = ["age", "boxes", "name", "sizes", "weight", "split", "record_file"]
    file = "films-train.tfrecord"
    assert table[names].fillna("").to_numpy().tolist() == [
        ["7", "[0.1, 0.5]", "Zoë", "[1, -2]", "0.1", "train", file],
        [str(2**62), "", "Zoë", "", "7", "train", file],
        ["", "", "", "", "", "train", file],
    ]
    for number, content in enumerate(images):
        path = tmp_path / "out/images" / table.loc[number, "image_id"]
        assert path.read_bytes() == content
    assert summary.warnings == []


def test_declared_features_are_read_and_others_are_not(
    tmp_path: Path, take_in: TakeIn, image_bytes: Encode
) -> None:
    source = _write(
        tmp_path / "source/a.tfrecord",
        [
            {"image/encoded": image_bytes(1), "image/label": 1, "mask": b"\xff"},
            {"image/encoded": image_bytes(2), "image/label": 0, "note": b"x"},
        ],
    )
    fields = {"image_feature": "image/encoded"}
    with pytest.raises(BadInput, match=r"a.tfrecord: record 2: has feature 'note', which the fir"):
        take_in("tfrecord", source, **fields)
    summary, table = take_in("tfrecord", source, **fields, features=["image/label", "absent"])
    assert table["image/label"].tolist() == ["1", "0"]
    assert table["absent"].isna().all()
    assert summary.usable == 2
    with pytest.raises(BadInput, match=r"feature 'mask' holds bytes that are no UTF-8 text"):
        take_in("tfrecord", source, **fields, features=["mask"])


@pytest.mark.parametrize("zipped", ["", "GZIP"])
def test_zipped_files_archives_and_single_files_are_read(
    tmp_path: Path, take_in: TakeIn, image_bytes: Encode, address: str, zipped: str
) -> None:
    examples = [{"image": image_bytes(n), "label": n} for n in range(3)]
    source = _write(tmp_path / "source/a.tfrecord", examples, zipped)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(source, arcname="wrapped/records")
    for uri, records in (
        (source, ""),
        (source / "a.tfrecord", ""),
        (f"{address}/source/a.tfrecord", ""),
        (f"{address}/a.tar.gz", "records"),
    ):
        _, table = take_in("tfrecord", uri, records=records)
        assert table["label"].tolist() == ["0", "1", "2"]


@pytest.fixture
def prepared(tmp_path: Path, image_bytes: Encode) -> Path:
    """Return a folder as TensorFlow Datasets 4.9 prepares it."""
    folder = tmp_path / "faces/1.0.0"
    made = 0
    for split, counts in {"train": [2, 1], "test": [1, 1]}.items():
        for shard, count in enumerate(counts):
            examples = []
            for number in range(made, made + count):
                label = -1 if split == "test" else number % 2
                example = {"image": image_bytes(number), "mask": b"\x89PNG", "label": label}
                example |= {"ok": number % 2, "objects/label": [1, 0], "race": b"Black"}
                examples.append(example)
            made += count
            _write(folder / f"faces-{split}.tfrecord-0000{shard}-of-00002", examples)
    module = "tensorflow_datasets.core.features"
    features = {
        "image": {"image": {"dtype": "uint8", "encodingFormat": "jpeg"}},
        "mask": {"image": {"dtype": "uint8"}},
        "label": {"classLabel": {"numClasses": "2"}},
        "ok": {"tensor": {"dtype": "bool", "encoding": "none", "shape": {}}},
        "race": {"text": {}},
        "objects": {
            "sequence": {
                "feature": {"featuresDict": {"features": {"label": {"classLabel": {}}}}},
                "length": "-1",
            }
        },
    }
    document = {"featuresDict": {"features": features}, "pythonClassName": f"{module}.FeaturesDict"}
    (folder / "features.json").write_text(json.dumps(document))
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    splits = [
        {"name": "train", "shardLengths": ["2", "1"], "filepathTemplate": template},
        {"name": "test", "shardLengths": ["1", "1"], "filepathTemplate": template},
    ]
    info = {"name": "faces", "fileFormat": "tfrecord", "splits": splits, "version": "1.0.0"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "label.labels.txt").write_text("Female\nMale\n")
    (folder / "objects-label.labels.txt").write_text("eye\nnose\n")
    return folder


def _changed(prepared: Path, file: str, **fields: Any) -> None:
    path = prepared / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_folder_of_tensorflow_datasets_is_read(take_in: TakeIn, prepared: Path) -> None:
    summary, table = take_in("tfrecord", prepared)
    assert table["label"].fillna("").tolist() == ["Female", "Male", "Female", "", ""]
    assert table["split"].tolist() == ["train"] * 3 + ["test"] * 2
    assert table["ok"].tolist() == ["False", "True", "False", "True", "False"]
    assert set(table["objects/label"]) == {'["nose", "eye"]'}
    assert summary.warnings == ["feature 'mask' is no text and is left out"]
    _, again = take_in("tfrecord", prepared.parent, records="1.0.0")
    assert again["image_id"].tolist() == table["image_id"].tolist()


def test_a_folder_that_is_not_whole_is_told(take_in: TakeIn, prepared: Path) -> None:
    shard = prepared / "faces-train.tfrecord-00001-of-00002"
    whole = shard.read_bytes()
    (prepared / "faces-extra.tfrecord-00000-of-00001").write_bytes(whole)
    assert "faces-extra" in take_in("tfrecord", prepared)[0].warnings[0]
    (prepared / "faces-extra.tfrecord-00000-of-00001").unlink()
    shard.write_bytes(whole * 2)
    with pytest.raises(BadInput, match=r"holds 2 examples where dataset_info.json says 1"):
        take_in("tfrecord", prepared)
    shard.write_bytes(b"")
    with pytest.raises(BadInput, match=r"holds 0 examples where dataset_info.json says 1"):
        take_in("tfrecord", prepared)
    shard.unlink()
    with pytest.raises(BadInput, match=r"files are absent: faces-train.tfrecord-00001-of-00002"):
        take_in("tfrecord", prepared)
    (prepared / "dataset_info.json").unlink()
    with pytest.raises(BadInput, match=r"files are absent: faces-train.tfrecord-00001-of-00002"):
        take_in("tfrecord", prepared)


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("dataset_info.json", {"fileFormat": "array_record"}, "is written as 'array_record'"),
        ("dataset_info.json", {"splits": "train"}, "splits: is a text, not a list"),
        ("dataset_info.json", {"splits": [{"name": "a", "shardLengths": ["x"]}]}, "'x' is no numb"),
        (
            "dataset_info.json",
            {"splits": [{"name": "../../etc/x", "shardLengths": ["1"]}]},
            "is no plain name of a file",
        ),
        (
            "dataset_info.json",
            {"splits": [{"name": "a", "shardLengths": ["1"], "filepathTemplate": "/etc/passwd"}]},
            "'/etc/passwd' is no plain name",
        ),
        ("features.json", {"featuresDict": {"features": {}}}, "there is no feature 'image'"),
        ("features.json", {"featuresDict": []}, "featuresDict: is a list, not an object"),
    ],
)
def test_descriptions_that_are_wrong_are_named(
    take_in: TakeIn, prepared: Path, file: str, fields: dict[str, Any], message: str
) -> None:
    _changed(prepared, file, **fields)
    with pytest.raises(BadInput, match=rf"^{file}.*{message}"):
        take_in("tfrecord", prepared)


def test_a_class_without_a_name_is_named(take_in: TakeIn, prepared: Path) -> None:
    (prepared / "label.labels.txt").write_text("Female\n")
    with pytest.raises(
        BadInput, match=r"00000-of-00002: record 2: feature 'label': class 1 has no name; there are"
    ):
        take_in("tfrecord", prepared)


@pytest.fixture
def file(tmp_path: Path, image_bytes: Encode) -> Path:
    path = tmp_path / "source/a.tfrecord"
    _write(path, [{"image": image_bytes(n), "label": n} for n in range(3)])
    return path


def _framed(record: bytes) -> bytes:
    length = pack("<Q", len(record))
    checksums = pack("<I", masked_crc32c(length)), pack("<I", masked_crc32c(record))
    return length + checksums[0] + record + checksums[1]


@pytest.mark.parametrize("kept", [3, 11, 12, 100, -1, -4])
def test_a_file_that_ends_early_is_named(take_in: TakeIn, file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(BadInput, match=r"a.tfrecord: ends early, within record [13]; fetch it"):
        take_in("tfrecord", file.parent)


def test_a_flipped_bit_is_found_wherever_it_is(take_in: TakeIn, file: Path) -> None:
    whole = file.read_bytes()
    first = 12 + int.from_bytes(whole[:8], "little") + 4
    for place, message in (
        (0, "is no TFRecord file, or its beginning is damaged"),
        (40, "record 1 does not match its checksum"),
        (first - 1, "record 1 does not match its checksum"),
        (first, "the length of record 2 does not match its checksum"),
        (first + 200, "record 2 does not match its checksum"),
    ):
        content = bytearray(whole)
        content[place] ^= 1
        file.write_bytes(content)
        with pytest.raises(BadInput, match=f"^a.tfrecord: {message}"):
            take_in("tfrecord", file.parent)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no records at all", "is no TFRecord file"),
        (b"<!DOCTYPE html>", "is no TFRecord file but a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (zlib.compress(_framed(b"x")), "packed as ZLIB"),
        (b"\x1f\x8b\x08\x00garbage that is no gzip", "is damaged"),
        (_framed(b"no example"), "record 1: is no tf.train.Example"),
        (pack("<Q", 2**40) + pack("<I", masked_crc32c(pack("<Q", 2**40))), "1099511627776 bytes"),
        (b"", "has no rows"),
        (_framed(_example({"label": 1})), r"record 1: has no feature 'image'.*it has label"),
        (_framed(_example({"image": [b"a", b"b"]})), "holds 2 values of bytes"),
        (_framed(_example({"image": 7})), "holds 1 values of int"),
        (_framed(_example({"image": b"x", "record_file": 1})), "rename feature 'record_file'"),
    ],
    # the bytes of an example are not the same in every process
    ids=[
        "text",
        "page",
        "pointer",
        "zlib",
        "gzip",
        "no example",
        "huge",
        "empty",
        "no image",
        "two",
        "number",
        "taken name",
    ],
)
def test_what_is_no_record_of_an_image_is_named(
    take_in: TakeIn, file: Path, content: bytes, message: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(BadInput, match=message) as error:
        take_in("tfrecord", file.parent, max_quarantined=1)
    assert "\n" not in str(error.value)


def test_a_zipped_file_that_is_cut_is_named(
    tmp_path: Path, take_in: TakeIn, image_bytes: Encode
) -> None:
    path = tmp_path / "source/a.tfrecord"
    _write(path, [{"image": image_bytes(n, size=99)} for n in range(3)], "GZIP")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"a.tfrecord: is damaged: .*; fetch it again"):
        take_in("tfrecord", path.parent)


def test_a_bomb_is_stopped_by_what_it_writes(
    tmp_path: Path, take_in: TakeIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "FREE_BYTES", 1_000_000)
    monkeypatch.setattr(record_file, "LONGEST_RECORD", 300_000)
    source = _write(tmp_path / "source/a.tfrecord", [{"image": bytes(200_000)}] * 60, "GZIP")
    with pytest.raises(BadInput, match="unpack to more than"):
        take_in("tfrecord", source, max_quarantined=1)
    _write(tmp_path / "source/a.tfrecord", [{"image": bytes(400_000)}], "GZIP")
    with pytest.raises(BadInput, match=r"record 1 has 4000\d\d bytes; 300000 are allowed"):
        take_in("tfrecord", source)


def test_folders_without_records_are_told(tmp_path: Path, take_in: TakeIn, file: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films/notes.txt").write_text("no records")
    with pytest.raises(BadInput, match=r"holds no TFRecord file; it holds notes.txt"):
        take_in("tfrecord", tmp_path / "films")
    with pytest.raises(BadInput, match=r"holds no folder '1.0.0' \(source.records\)"):
        take_in("tfrecord", file.parent, records="1.0.0")


def test_the_state_changes_with_the_records(file: Path, image_bytes: Encode) -> None:
    for uri in (file, file.parent):
        reader = open_source(TFRecord(uri=str(uri)))
        before = reader.state()
        assert reader.state() == before
        _write(file, [{"image": image_bytes(9)}])
        assert reader.state() != before


def test_tensorflow_is_not_needed_and_not_disturbed(file: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tasks.data.sources.record_file import read_records\n"
        "from tasks.data.sources.tf_example import parse_example\n"
        f"found = [parse_example(r)['label'] for r in read_records(Path({str(file)!r}))]\n"
        "assert found == [[0], [1], [2]], found\n"
        "assert not {'tensorflow', 'pandas'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    record = _example({"label": 7})
    assert parse_example(record)["label"] == [7]
    assert tf.train.Example.FromString(record).features.feature["label"].int64_list.value == [7]


@pytest.mark.parametrize(
    ("name", "zipped", "split"),
    [
        ("data_tfrecord-00000-of-00001.gz", "GZIP", ""),
        ("train.record", "", "train"),
        ("train.record", "GZIP", "train"),
        ("coco_train.record-00000-of-00001", "", "train"),
        ("val-00000-of-00001", "", "val"),
        ("part-r-00000", "", ""),
        ("part-r-00000.gz", "GZIP", ""),
        ("films-test.tfrecord-00000-of-00001.gz", "GZIP", "test"),
        ("train.tf_record", "", "train"),
        ("train.TFRecord", "", "train"),
        ("train.tfrecords-1", "", "train"),
        ("train.bin", "", "train"),
        ("examples", "", ""),
        ("cats_train-0.tfrecord", "", "train"),
        ("cats-test-3.tfrecord", "", "test"),
        ("cats-9.tfrecord", "", ""),
        ("train-00001-of-00001", "", "train"),
    ],
)
def test_records_are_told_by_their_content_whatever_the_file_is_called(
    tmp_path: Path, take_in: TakeIn, image_bytes: Encode, name: str, zipped: str, split: str
) -> None:
    examples = [{"image": image_bytes(n), "label": n} for n in range(3)]
    source = _write(tmp_path / "source" / name, examples, zipped)
    (source / "_SUCCESS").write_bytes(b"")
    (source / "notes.txt").write_text("these are the films")
    for uri in (source, source / name):
        summary, table = take_in("tfrecord", uri)
        assert table["label"].tolist() == ["0", "1", "2"]
        assert table["split"].fillna("").unique().tolist() == [split]
        assert table["record_file"].unique().tolist() == [name]
        assert summary.warnings == []


def test_a_file_at_an_http_address_is_told_by_its_content(
    tmp_path: Path, take_in: TakeIn, image_bytes: Encode, address: str
) -> None:
    _write(tmp_path / "source/train.record", [{"image": image_bytes(n)} for n in range(3)])
    summary, table = take_in("tfrecord", f"{address}/source/train.record")
    assert summary.usable == 3
    assert table["record_file"].unique().tolist() == ["train.record"]


def test_folders_of_splits_are_read_together_or_one_by_one(
    tmp_path: Path, take_in: TakeIn, image_bytes: Encode
) -> None:
    root = tmp_path / "examples/1"
    for number, split in enumerate(("train", "eval")):
        _write(
            root / f"Split-{split}/data_tfrecord-00000-of-00001.gz",
            [{"image": image_bytes(number), "label": number}],
            "GZIP",
        )
    _, table = take_in("tfrecord", root)
    assert table["split"].tolist() == ["eval", "train"]
    assert table["label"].tolist() == ["1", "0"]
    assert table.loc[0, "record_file"] == "Split-eval/data_tfrecord-00000-of-00001.gz"
    _, table = take_in("tfrecord", root, records="Split-train")
    assert table["label"].tolist() == ["0"]
    _, table = take_in("tfrecord", root, records="Split-train/data_tfrecord-00000-of-00001.gz")
    assert table["label"].tolist() == ["0"]
    path = root / "Split-eval/data_tfrecord-00000-of-00001.gz"
    path.rename(path.with_name("data_tfrecord-00000-of-00002.gz"))
    with pytest.raises(BadInput, match="absent: Split-eval/data_tfrecord-00001-of-00002"):
        take_in("tfrecord", root)


def test_an_empty_part_is_a_part(tmp_path: Path, take_in: TakeIn, image_bytes: Encode) -> None:
    source = _write(tmp_path / "source/a-00001-of-00002", [{"image": image_bytes(1), "age": 7}])
    (source / "a-00000-of-00002").write_bytes(b"")
    _, table = take_in("tfrecord", source)
    assert table["age"].tolist() == ["7"]


def test_a_folder_may_be_called_like_a_file(
    tmp_path: Path, take_in: TakeIn, image_bytes: Encode
) -> None:
    source = _write(tmp_path / "films.tfrecord/part-r-00000", [{"image": image_bytes(1)}])
    for uri in (source, f"{source}/"):
        summary, _ = take_in("tfrecord", uri)
        assert summary.usable == 1


def test_the_folder_of_a_version_is_named(
    tmp_path: Path, take_in: TakeIn, image_bytes: Encode
) -> None:
    source = _write(tmp_path / "films/1.0.0/films-train.tfrecord", [{"image": image_bytes(1)}])
    (source / "dataset_info.json").write_text("{}")
    with pytest.raises(BadInput, match=r"set source.records to '1.0.0'"):
        take_in("tfrecord", tmp_path / "films")


def test_what_is_no_record_file_is_named(tmp_path: Path, take_in: TakeIn) -> None:
    path = tmp_path / "films.bin"
    path.write_bytes(bytes(100))
    with pytest.raises(BadInput, match="is neither a TFRecord file, nor a folder, nor an archive"):
        take_in("tfrecord", path)
