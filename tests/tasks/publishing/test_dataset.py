"""The published data set: whole, once, the same for the same data, and read back by others."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from s3fs import S3FileSystem

from tasks.contract import BadInput, Manifest, RunDirectory, StageError
from tasks.data import Arranged
from tasks.environment import Environment
from tasks.publishing import Destination
from tasks.runner import run_stage
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tasks.stages.base import StageInput

from .conftest import DOCUMENT

Publish = Callable[..., Manifest]


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def publish(arranged_run: RunDirectory) -> Publish:
    def run(uri: str, **options: Any) -> Manifest:
        section = {"dataset": {"uri": uri, **options}}
        return run_stage(
            load_stage("publish_data"),
            pipeline=Pipeline.model_validate({**DOCUMENT, "publish": section}),
            run=arranged_run,
            environment=Environment.read(),
        )

    return run


def arranged(run: RunDirectory) -> Arranged:
    manifest = run.read_manifest("arrange")
    assert manifest is not None
    return Arranged(StageInput(manifest))


def folder_of(manifest: Manifest) -> Path:
    return Path(manifest.addresses["dataset"].removeprefix("file://"))


def test_everything_is_read_back_as_it_was_arranged(
    publish: Publish, arranged_run: RunDirectory, tmp_path: Path
) -> None:
    folder = folder_of(publish(str(tmp_path / "data"), license="CC0-1.0"))
    rows = pd.concat(pd.read_parquet(path) for path in sorted(folder.glob("data/*.parquet")))
    own = arranged(arranged_run)
    table = own.table().set_index("image_id")
    assert len(rows) == len(table) and set(rows["image_id"]) == set(table.index)
    for row in rows.itertuples():
        assert hashlib.sha256(row.image).hexdigest() == row.image_sha256
        expected = table.loc[row.image_id]
        assert (row.split, row.class_name, row.class_index) == (
            *(expected["split_side"], expected["class_name"], expected["class_index"]),
        )
        assert Image.open(io.BytesIO(row.image)).size[0] > 0
    assert set(rows["patientid"].dropna()) == set(table["patientid"].dropna())
    internal = {"shard", "shard_offset", "image_path", "image_status", "region_path"}
    assert not internal & set(rows.columns)
    card = (folder / "README.md").read_text()
    assert "Licence: CC0-1.0" in card and "metadata.finding != 'todo'" in card
    counts = Counter(zip(table["split_side"], table["class_name"], strict=True))
    for name in own.classes:
        train, test = counts["train", name], counts["test", name]
        assert f"| {name} | {own.classes.index(name)} | {train} | {test} |" in card


def test_the_manifest_names_every_file_with_its_digest(publish: Publish, tmp_path: Path) -> None:
    manifest = publish(str(tmp_path))
    folder = folder_of(manifest)
    document = json.loads((folder / "manifest.json").read_text())
    files = {entry["path"]: entry["sha256"] for entry in document["files"]}
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert files == found and "README.md" in files
    latest = json.loads((tmp_path / "films/latest.json").read_text())
    assert latest == {"folder": folder.name, "fingerprint": document["fingerprint"]}
    told = json.loads(
        (Path(manifest.location.removeprefix("file://")) / "dataset.json").read_text()
    )
    assert told["uri"] == manifest.addresses["dataset"]


def test_the_same_data_are_published_once(publish: Publish, tmp_path: Path) -> None:
    first = publish(str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in folder_of(first).rglob("*")}
    second = publish(str(tmp_path))
    assert second.addresses == first.addresses
    assert first.metrics["publish_data.already_published"] == 0
    assert second.metrics["publish_data.already_published"] == 1
    assert before == {path: path.stat().st_mtime_ns for path in folder_of(first).rglob("*")}


def test_other_columns_are_another_data_set(publish: Publish, tmp_path: Path) -> None:
    everything = folder_of(publish(str(tmp_path)))
    few = folder_of(publish(str(tmp_path), columns=["sex"]))
    assert few != everything and everything.is_dir()
    rows = pd.read_parquet(few / "data")
    assert set(rows.columns) == {
        *("image", "image_id", "image_sha256", "split", "class_name", "class_index", "sex"),
    }
    with pytest.raises(BadInput, match="there is no column 'weight'; the columns are"):
        publish(str(tmp_path), columns=["weight"])


def test_other_terms_are_published_too(publish: Publish, tmp_path: Path) -> None:
    former = folder_of(publish(str(tmp_path), license="CC0-1.0"))
    manifest = publish(str(tmp_path), license="CC-BY-NC-4.0")
    folder = folder_of(manifest)
    assert manifest.metrics["publish_data.already_published"] == 0
    assert "Licence: CC-BY-NC-4.0" in (folder / "README.md").read_text()
    assert "Licence: CC0-1.0" in (former / "README.md").read_text()
    assert json.loads((tmp_path / "films/latest.json").read_text())["folder"] == folder.name


def test_a_file_is_closed_at_its_size(publish: Publish, tmp_path: Path) -> None:
    from tasks.publishing import dataset

    whole = pd.read_parquet(folder_of(publish(str(tmp_path / "one"))) / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SHARD_UNIT", 10_000)
        folder = folder_of(publish(str(tmp_path / "many"), shard_megabytes=1))
    files = sorted(path.name for path in folder.glob("data/*"))
    assert len(files) > 4 and files[0] == "test-00000.parquet"
    images = [pd.read_parquet(path)["image"].map(len).sum() for path in folder.glob("data/*")]
    assert max(images) <= 10_000
    parts = pd.concat(pd.read_parquet(path) for path in folder.glob("data/*"))
    assert sorted(parts["image_id"]) == sorted(whole["image_id"])


def test_tfrecord_is_read_by_tensorflow(publish: Publish, tmp_path: Path) -> None:
    import tensorflow as tf

    folder = folder_of(publish(str(tmp_path), format="tfrecord"))
    rows = pd.read_parquet(folder_of(publish(str(tmp_path))) / "data").set_index("image_id")
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "image_id": tf.io.FixedLenFeature([], tf.string),
        "class_index": tf.io.FixedLenFeature([], tf.int64),
        "sex": tf.io.FixedLenFeature([], tf.string, default_value=""),
    }
    seen = 0
    paths = sorted(str(path) for path in folder.glob("data/*.tfrecord"))
    for record in tf.data.TFRecordDataset(paths):
        found = tf.io.parse_single_example(record, features)
        row = rows.loc[found["image_id"].numpy().decode()]
        assert found["image"].numpy() == row["image"]
        assert int(found["class_index"]) == row["class_index"]
        sex = row["sex"] if isinstance(row["sex"], str) else ""
        assert found["sex"].numpy().decode() == sex
        seen += 1
    assert seen == len(rows)


def test_nothing_is_visible_before_all_of_it_is_there(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visible: list[list[str]] = []

    def fails(self: Destination, *_: Any) -> None:
        visible.append([str(p) for p in (tmp_path / "films").glob("*-parquet")])
        raise StageError("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Destination, "commit", fails)
        with pytest.raises(StageError, match="the disk is full"):
            publish(str(tmp_path))
    assert visible == [[]] and not list((tmp_path / "films").rglob("*"))
    assert folder_of(publish(str(tmp_path))).is_dir()


def test_a_data_set_that_is_not_whole_any_more_is_published_again(
    publish: Publish, tmp_path: Path
) -> None:
    folder = folder_of(publish(str(tmp_path)))
    (folder / "data/train-00000.parquet").write_bytes(b"cut off")
    again = publish(str(tmp_path))
    assert again.metrics["publish_data.already_published"] == 0
    assert len(pd.read_parquet(folder / "data")) == again.metrics["publish_data.rows"]


def test_in_a_bucket_the_manifest_is_written_last(
    publish: Publish, bucket: S3FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    plain = Destination.put

    def noted(self: Destination, name: str, source: Path) -> Any:
        assert not bucket.exists(f"{self.path}/manifest.json")
        order.append(name)
        return plain(self, name, source)

    monkeypatch.setattr(Destination, "put", noted)
    manifest = publish("s3://published/data")
    assert order == ["data/train-00000.parquet", "data/test-00000.parquet", "README.md"]
    folder = manifest.addresses["dataset"].removeprefix("s3://")
    assert folder.startswith("published/data/films/")
    with bucket.open(f"{folder}/data/train-00000.parquet") as stream:
        assert len(pd.read_parquet(stream)) > 0
    order.clear()
    assert publish("s3://published/data").metrics["publish_data.already_published"] == 1
    assert order == []
    bucket.rm_file(f"{folder}/data/test-00000.parquet")
    # while it is not whole, nobody is told that it is there
    assert publish("s3://published/data").metrics["publish_data.already_published"] == 0
    assert len(order) == 3 and bucket.exists(f"{folder}/manifest.json")
    assert bucket.exists(f"{folder}/data/test-00000.parquet")
