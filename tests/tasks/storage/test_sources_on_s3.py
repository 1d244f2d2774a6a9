"""Sources in a bucket: a folder of images, an archive, IDX files."""

import gzip
import io
import struct
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import TypeAdapter

from tasks.contract import BadInput, NoInput
from tasks.data import Arranged
from tasks.data.arrange import arrange
from tasks.data.ingest import ingest
from tasks.data.objects import listing
from tasks.data.sources import open_source
from tasks.data.sources.record_file import masked_crc32c
from tasks.data.tables import read_table
from tasks.spec import CsvImages, Idx, Label, Source, Split
from tasks.stages.base import StageInput
from tests.tasks.storage.conftest import ANY_KEY


def film(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def bucket(store):
    rows = ["filename,finding", *(f"{n // 3}/{n}.png,{'ab'[n % 2]}" for n in range(6)), "7.png,a"]
    contents = {
        "metadata.csv": "\n".join(rows).encode(),
        **{f"images/{n // 3}/{n}.png": film(n) for n in range(6)},
        "masks/0/0.png": film(9),
        "unrelated/big.bin": b"x",
    }
    for name, content in contents.items():
        store.fs.pipe_file(f"nights/films/{name}", content)
    return store


def source(uri="s3://nights/films", **more):
    return open_source(CsvImages(uri=uri, regions="masks/{stem}.png", max_missing=0.5, **more))


def test_a_folder_in_a_bucket_is_taken_in(bucket, tmp_path):
    summary = ingest(source(), tmp_path / "out", scratch=tmp_path / "scratch")
    assert (summary.rows, summary.usable, summary.missing, summary.regions) == (7, 6, 1, 1)
    assert (tmp_path / "out/images/1/5.png").read_bytes() == film(5)
    assert not bucket.count("unrelated")


def test_an_attempt_goes_on_where_an_earlier_one_was_killed(bucket, tmp_path):
    (tmp_path / "first").mkdir()
    refused = (403, b"<Error><Code>AccessDenied</Code></Error>")
    bucket.fault = lambda method, target: (
        refused if method == "GET" and "images/1/5.png" in target else None
    )
    with pytest.raises(Exception, match="the store refuses"):
        ingest(source(), tmp_path / "first", scratch=tmp_path / "scratch")
    bucket.fault = lambda method, target: None
    bucket.fs.pipe_file("nights/films/images/0/1.png", film(77))
    del bucket.seen[:]
    ingest(source(), tmp_path / "out", scratch=tmp_path / "scratch")
    fetched = {line.split("/")[-1] for line in bucket.seen if ".png" in line}
    assert {"1.png", "5.png"} <= fetched
    assert len(fetched) < 7
    assert (tmp_path / "out/images/0/1.png").read_bytes() == film(77)


def test_the_state_changes_with_the_objects_that_are_read(bucket):
    before = source().state()
    bucket.fs.pipe_file("nights/films/unrelated/more.bin", b"y")
    assert source().state() == before
    bucket.fs.pipe_file("nights/films/images/1/5.png", film(50))
    after = source().state()
    assert after != before
    bucket.fs.rm_file("nights/films/images/1/5.png")
    assert source().state() not in (before, after)


def test_an_archive_in_a_bucket_is_taken_in(bucket, tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for path in bucket.files("films"):
            content = bucket.fs.cat_file(f"nights/{path}")
            member = tarfile.TarInfo(f"wrapped/{path.removeprefix('films/')}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    bucket.fs.pipe_file("nights/films.tar.gz", raw.getvalue())
    reader = source("s3://nights/films.tar.gz")
    assert reader.state() == reader.state() != source().state()
    summary = ingest(reader, tmp_path / "out", scratch=tmp_path / "scratch")
    assert summary.usable == 6


def test_idx_files_in_a_bucket_are_taken_in(store, tmp_path):
    spec = Idx(uri="s3://nights/idx", class_names=["a", "b"])
    pixels = struct.pack(">IIII", 2051, 2, 4, 4) + bytes(range(32))
    labels = struct.pack(">II", 2049, 2) + bytes([0, 1])
    for name in (spec.train_images, spec.test_images):
        store.fs.pipe_file(f"nights/idx/{name}", gzip.compress(pixels))
    for name in (spec.train_labels, spec.test_labels):
        store.fs.pipe_file(f"nights/idx/{name}", gzip.compress(labels))
    summary = ingest(open_source(spec), tmp_path / "out", scratch=tmp_path / "scratch")
    assert summary.usable == 4
    table = read_table(tmp_path / "out" / "metadata.parquet")
    assert list(table["label"]) == ["a", "b", "a", "b"]


def test_an_address_with_nothing_is_told(store):
    with pytest.raises(NoInput, match=r"source.uri 's3://nights/none': there is nothing"):
        source("s3://nights/none").state()


@ANY_KEY
def test_a_key_that_leaves_the_folder_is_refused(bucket, tmp_path):
    bucket.fs.call_s3("put_object", Bucket="nights", Key="films/images/../../out.png", Body=b"x")
    with pytest.raises(BadInput, match="is no plain path; rename or remove it"):
        ingest(source(), tmp_path / "out", scratch=tmp_path / "scratch")


def test_only_the_side_that_is_read_is_fetched(bucket, tmp_path):
    from tasks.contract import Manifest, RunDirectory, describe_outputs
    from tasks.storage import InputCache, Workspace, store_outputs

    out = tmp_path / "out"
    ingest(source(), out, scratch=tmp_path / "scratch")
    split = Split(test=0.5, layout="shards")
    (tmp_path / "arranged").mkdir()
    table, _ = arrange(
        out / "metadata.parquet",
        out,
        tmp_path / "arranged",
        label=Label(column="finding"),
        split=split,
    )
    run = RunDirectory(bucket.url("films/runs/one"))
    outputs = describe_outputs(tmp_path / "arranged")
    store_outputs(run, "arrange", tmp_path / "arranged", outputs)
    manifest = Manifest(
        stage="arrange",
        fingerprint="f",
        location=run.stage_uri("arrange"),
        outputs=outputs,
    ).sealed()
    del bucket.seen[:]
    with Workspace(tmp_path / "work") as workspace:
        arranged = Arranged(StageInput(manifest, InputCache(workspace)))
        rows = arranged.table("test")
        assert 0 < len(rows) < len(table)
        images = list(arranged.read_bytes(rows))
        assert images == [(out / "images" / name).read_bytes() for name in rows["image_id"]]
        assert bucket.count("test_shards.tar")
        assert not bucket.count("train_shards.tar") and not bucket.count("regions.tar")
        everything = arranged.table()
        masks = [arranged.region(row) is not None for _, row in everything.iterrows()]
        assert sum(masks) == 1
        assert bucket.count("regions.tar")


def test_many_named_files_are_found_by_one_listing_of_their_folder(store):
    names = [f"{number}.png" for number in range(30)]
    for name in [*names, "deep/30.png", "deep/sub/31.png", "unrelated/32.png"]:
        store.fs.pipe_file(f"nights/films/{name}", b"x")
    del store.seen[:]
    found = listing("s3://nights/films", [*names, "absent.png", "deep"])
    assert set(found) == {*names, "deep/30.png", "deep/sub/31.png"}
    assert len(store.seen) == 2


def fields(*pairs):
    """Write length-delimited fields of a protocol buffer, of up to 16,383 bytes each."""
    out = b""
    for number, content in pairs:
        size = len(content)
        length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        out += bytes([number << 3 | 2]) + length + content
    return out


def tfrecord(content):
    feature = fields((1, fields((1, content))))
    example = fields((1, fields((1, fields((1, b"image"), (2, feature))))))
    length = struct.pack("<Q", len(example))
    crcs = [struct.pack("<I", masked_crc32c(part)) for part in (length, example)]
    return length + crcs[0] + example + crcs[1]


def table(content):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": [content]}), buffer)
    return buffer.getvalue()


SOURCES = {
    "class_folders": ({"data/cat/1.png": film(1), "data/dog/2.png": film(2)}, {"images": "data"}),
    "cifar10": (
        {f"{name}.bin": bytes(3073) for name in ("data_batch_1", "test_batch")},
        {"version": "binary", "train_batches": ["data_batch_1.bin"]},
    ),
    "fairface": (
        {
            "fairface_label_val.csv": b"file,age\nval/1.jpg,3-9\nval/2.jpg,10-19\n",
            "val/1.jpg": film(1),
            "val/2.jpg": film(2),
        },
        {},
    ),
    "parquet": (
        {"data/a.parquet": table(film(1)), "data/b.parquet": table(film(2))},
        {"table": "data"},
    ),
    "tfrecord": (
        {"1.0.0/a.tfrecord": tfrecord(film(1)), "1.0.0/b.tfrecord": tfrecord(film(2))},
        {"records": "1.0.0"},
    ),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_files_is_read_from_a_bucket_and_from_an_archive_in_it(store, tmp_path, kind):
    contents, more = SOURCES[kind]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in contents.items():
            store.fs.pipe_file(f"nights/{kind}/{name}", content)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    store.fs.pipe_file(f"nights/{kind}/unrelated.bin", b"x")
    store.fs.pipe_file(f"nights/{kind}.tar.gz", packed.getvalue())
    for number, uri in enumerate((f"s3://nights/{kind}", f"s3://nights/{kind}.tar.gz")):
        spec = TypeAdapter(Source).validate_python({"kind": kind, "uri": uri, **more})
        reader, out = open_source(spec), tmp_path / str(number)
        before = reader.state()
        out.mkdir()
        assert ingest(reader, out, scratch=tmp_path / f"scratch {number}").usable == 2
        assert reader.state() == before
    changed = next(iter(contents))
    store.fs.pipe_file(f"nights/{kind}/{changed}", contents[changed] + b"\n")
    spec = TypeAdapter(Source).validate_python({"kind": kind, "uri": f"s3://nights/{kind}", **more})
    after = open_source(spec).state()
    store.fs.pipe_file(f"nights/{kind}/{changed}", contents[changed])
    assert open_source(spec).state() != after


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("parquet", "films.parquet", table(film(1))),
        ("parquet", "films", table(film(1))),
        ("tfrecord", "train.record", tfrecord(film(1))),
        ("tfrecord", "part-r-00000", tfrecord(film(1))),
    ],
)
def test_a_single_object_is_told_by_its_content(store, tmp_path, kind, name, content):
    store.fs.pipe_file(f"nights/single/{name}", content)
    spec = TypeAdapter(Source).validate_python({"kind": kind, "uri": f"s3://nights/single/{name}"})
    for attempt in ("first", "second"):
        out = tmp_path / attempt
        out.mkdir()
        reader = open_source(spec)
        assert reader.state() == open_source(spec).state()
        assert ingest(reader, out, scratch=tmp_path / "scratch").usable == 1
    columns = pq.read_table(out / "metadata.parquet").to_pydict()
    assert columns["table_file" if kind == "parquet" else "record_file"] == [name]


@pytest.mark.parametrize(("kind", "content"), [("parquet", table), ("tfrecord", tfrecord)])
def test_a_prefix_may_be_called_like_a_file(store, tmp_path, kind, content):
    for number in (1, 2):
        store.fs.pipe_file(f"nights/films.{kind}/part-{number}.{kind}", content(film(number)))
    more = {"table": ""} if kind == "parquet" else {}
    spec = TypeAdapter(Source).validate_python(
        {"kind": kind, "uri": f"s3://nights/films.{kind}", **more}
    )
    (tmp_path / "out").mkdir()
    assert ingest(open_source(spec), tmp_path / "out", scratch=tmp_path / "scratch").usable == 2


@pytest.mark.parametrize(
    "log", ["_delta_log/0.json", ".hoodie/hoodie.properties", "metadata/v2.metadata.json"]
)
def test_a_partition_of_a_table_with_a_log_is_refused_though_the_log_is_not_fetched(
    store, tmp_path, log
):
    store.fs.pipe_file("nights/films/x=1/part-0.parquet", table(film(1)))
    spec = TypeAdapter(Source).validate_python(
        {"kind": "parquet", "uri": "s3://nights/films", "table": "x=1"}
    )
    assert list(open_source(spec).open(tmp_path / "before").rows)
    store.fs.pipe_file(f"nights/films/{log}", b"{}")
    with pytest.raises(BadInput, match=r"an? (Delta|Hudi|Iceberg) table .* plain Parquet"):
        open_source(spec).open(tmp_path / "after")


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("s3://nights/films/x=1", ""),
        ("s3://nights/films/z=1/y=2/", ""),
        ("s3://nights/films/part.parquet", ""),
        ("s3://nights/films/x=1/part.parquet", ""),
        ("s3://nights/films/data", ""),
        ("s3://nights", "films/x=1"),
        ("s3://nights", "films/x=1/part.parquet"),
    ],
)
def test_a_log_is_looked_for_in_the_folders_above_as_on_this_machine(store, tmp_path, uri, part):
    for folder in ("films/z=1/y=2", "films/x=1", "films/data", "films"):
        store.fs.pipe_file(f"nights/{folder}/part.parquet", table(film(1)))
    spec = TypeAdapter(Source).validate_python({"kind": "parquet", "uri": uri, "table": part})
    # what belongs to another table beside it is none of this one's
    store.fs.pipe_file("nights/films/x=2/_delta_log/0.json", b"{}")
    assert list(open_source(spec).open(tmp_path / "before").rows)
    store.fs.pipe_file("nights/films/_delta_log/0.json", b"{}")
    with pytest.raises(BadInput, match=r"Delta table \(s3://nights/films\)"):
        open_source(spec).open(tmp_path / "after")


def test_a_folder_above_that_may_not_be_listed_is_no_reason_to_refuse(store, tmp_path, caplog):
    store.fs.pipe_file("nights/films/x=1/part.parquet", table(film(1)))
    refused = (403, b"<Error><Code>AccessDenied</Code></Error>")

    def denied(method, target):
        return refused if "films%2F_delta_log" in target else None

    store.fault = denied
    spec = TypeAdapter(Source).validate_python(
        {"kind": "parquet", "uri": "s3://nights/films/x=1", "table": ""}
    )
    assert list(open_source(spec).open(tmp_path / "scratch").rows)
    assert "whether it has a table's log is not known" in caplog.text
