"""What a store must not be able to do, and attempts that get in each other's way."""

import errno
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest

from tasks.contract import (
    Altered,
    BadConfig,
    Manifest,
    Output,
    RunDirectory,
    StageError,
    describe_outputs,
    storage_errors,
    stored_name,
)
from tasks.contract.filesystem import BLOCK_BYTES
from tasks.data.objects import listing
from tasks.runner import run_stage
from tasks.serving.container import Refused, fetch_model
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage
from tasks.storage import InputCache, store_outputs
from tasks.storage.tar_stream import extract
from tests.tasks.places import environment_at
from tests.tasks.storage.conftest import ANY_KEY

PIPELINE = Pipeline.model_validate(
    {"name": "films", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
)
DENIED = (403, b"<Error><Code>AccessDenied</Code></Error>")


class Write(Stage):
    """Writes a file; does something in between."""

    name = "ingest"
    scratch = ("checkpoints",)
    mirrored = ("checkpoints/epoch.npz",)

    def __init__(self, content=b"1", meanwhile=lambda out: None):
        self.content, self.meanwhile, self.computed = content, meanwhile, 0

    def config(self, pipeline):
        return None

    def run(self, context):
        self.computed += 1
        (context.out / "rows.csv").write_bytes(self.content)
        self.meanwhile(context.out)
        return Outcome()


@pytest.fixture
def run(store):
    return RunDirectory(store.url("films/runs/one"))


@pytest.fixture
def night(run, tmp_path):
    def attempt(stage, *, force=False):
        environment = environment_at(tmp_path, scratch=tmp_path / "scratch")
        reuse = "none" if force else "all"
        return run_stage(stage, pipeline=PIPELINE, run=run, environment=environment, reuse=reuse)

    return attempt


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/b", "..", "../", ".", "", "a\0b"])
def test_no_manifest_names_a_place_outside_of_its_folder(run, path):
    with pytest.raises(ValueError, match="path"):
        Output(path=path, bytes=1, sha256="0")
    document = {
        **{"stage": "ingest", "fingerprint": "f", "digest": "d", "location": "s3://nights/x"},
        "outputs": [{"path": path, "bytes": 1, "sha256": "0"}],
    }
    run.write_json("ingest/manifest.json", document)
    assert run.read_manifest("ingest") is None


def tar_of(*members):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    raw.seek(0)
    return raw


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("a", b"1"), ("a", b"2")], "holds 'a' twice"),
        ([("a", b"1"), ("a/b", b"2")], "holds 'a/b' twice, or a file below it"),
        ([("a", b"1" * 101)], "holds more than was committed"),
        ([("a", b"1" * 60), ("b", b"1" * 41)], "holds more than was committed"),
    ],
)
def test_a_tar_holds_each_file_once_and_no_more_than_was_committed(tmp_path, members, why):
    with pytest.raises(Altered, match=why):
        extract(tar_of(*members), tmp_path / "in", most_bytes=100)
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) <= 100


def test_a_sparse_member_that_says_to_be_huge_is_refused(tmp_path):
    member = tarfile.TarInfo("a")
    member.size = 3
    member.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1"}
    member.pax_headers |= {"GNU.sparse.map": "0,3", "GNU.sparse.size": str(2**50)}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(b"abc"))
    raw.seek(0)
    with pytest.raises(Altered, match=r"more than was committed|no plain file"):
        extract(raw, tmp_path / "in", most_bytes=100)
    raw.seek(0)
    with pytest.raises(Altered, match="no plain file"):
        extract(raw, tmp_path / "there", most_bytes=2**60)


def test_a_pod_given_up_for_lost_does_not_undo_the_commit_of_the_one_in_its_place(run, night):
    second = Write(b"second")

    def lost(out):
        # the other attempt begins in a later second and commits, and then this one ends badly
        threading.Event().wait(1.1)
        night(second)
        raise OSError("the node is away")

    with pytest.raises(OSError, match="away"):
        night(Write(b"first", lost))
    manifest = run.read_manifest("ingest")
    assert InputCache().path(manifest, "rows.csv").read_bytes() == b"second"


def test_objects_of_two_attempts_are_never_read_as_one_result(run, night, tmp_path):
    manifest = night(Write(b"second"))
    late = tmp_path / "late"
    late.mkdir()
    (late / "rows.csv").write_bytes(b"first!")
    store_outputs(run, "ingest", late, describe_outputs(late))
    with pytest.raises(Altered, match=r"rows\.csv: is not what ingest committed"):
        InputCache().path(manifest, "rows.csv")
    again = Write(b"third")
    night(again)
    assert again.computed == 1
    assert InputCache().path(run.read_manifest("ingest"), "rows.csv").read_bytes() == b"third"


def test_an_upload_that_another_attempt_ended_may_be_tried_again(store, run, tmp_path):
    (tmp_path / "model.keras").write_bytes(os.urandom(2 * BLOCK_BYTES))

    gone = (404, b"<Error><Code>NoSuchUpload</Code></Error>")
    store.fault = lambda method, target: gone if "partNumber=2" in target else None
    with pytest.raises(StageError, match="ended by another attempt") as caught:
        store_outputs(run, "train", tmp_path, describe_outputs(tmp_path))
    assert caught.value.exit_code == 1
    store.fault = lambda method, target: None
    listed = describe_outputs(tmp_path)
    store_outputs(run, "train", tmp_path, listed)
    assert store.files("films/runs/one/train") == ["films/runs/one/train/model.keras"]


@pytest.mark.parametrize(
    "record",
    [b"", b"[]", b'{"upload": "gone", "sha256": "0", "part_bytes": 1}', b'{"upload": 7}'],
)
def test_a_damaged_record_of_an_upload_is_no_hindrance(store, run, tmp_path, record):
    (tmp_path / "model.keras").write_bytes(os.urandom(BLOCK_BYTES + 1))
    store.fs.pipe_file("nights/films/runs/one/train/.model.keras.upload", record)
    store_outputs(run, "train", tmp_path, describe_outputs(tmp_path))
    assert store.files("films/runs/one/train") == ["films/runs/one/train/model.keras"]


def test_only_the_checkpoint_itself_is_copied_and_no_upload_is_left(store, run, night):
    def killed(out):
        (out / "checkpoints").mkdir(exist_ok=True)
        (out / "checkpoints" / "pixels.npy").write_bytes(b"the whole data set, decoded")
        (out / "checkpoints" / "epoch.npz").write_bytes(os.urandom(BLOCK_BYTES + 1))
        raise OSError("killed")

    store.fault = lambda method, target: DENIED if "partNumber=2" in target else None
    with pytest.raises(OSError, match="killed"):
        night(Write(meanwhile=killed))
    assert store.fs.call_s3("list_multipart_uploads", Bucket="nights").get("Uploads")
    assert not [name for name in store.files() if "pixels" in name]
    store.fault = lambda method, target: None
    night(Write())
    assert not store.fs.call_s3("list_multipart_uploads", Bucket="nights").get("Uploads")
    assert not [name for name in store.files() if ".scratch" in name]


def test_a_store_that_fails_after_the_commit_costs_no_computation(store, run, night, caplog):
    store.fault = lambda method, target: DENIED if "/cache/" in target and method == "PUT" else None
    night(Write())
    assert "other nights will not find the result" in caplog.text
    assert run.read_manifest("ingest") is not None
    assert run.read_failure("ingest") is None


def test_a_store_that_fails_hides_no_reason(store, night):
    store.fault = lambda method, target: (
        DENIED if "/failure.json" in target and method == "PUT" else None
    )

    def fail(out):
        raise RuntimeError("the true reason")

    with pytest.raises(RuntimeError, match="the true reason"):
        night(Write(meanwhile=fail))


@pytest.mark.parametrize(
    "entry",
    [
        {"run_uri": 7, "stage": "ingest", "digest": ""},
        {"run_uri": "s3://elsewhere/films/runs/one", "stage": "ingest", "digest": "{digest}"},
        {"run_uri": "{run}", "stage": "../ingest", "digest": "{digest}"},
        {"run_uri": "s3://nights/films/runs/..", "stage": "ingest", "digest": "{digest}"},
        {"run_uri": "{run}", "stage": "transform", "digest": "{digest}"},
        ["ingest"],
    ],
)
def test_a_cache_entry_leads_to_runs_of_its_pipeline_alone(store, run, night, entry):
    manifest = night(Write())
    if isinstance(entry, dict):
        known = {"{run}": run.uri, "{digest}": manifest.digest}
        entry = {name: known.get(value, value) for name, value in entry.items()}
    other = RunDirectory(store.url("films/runs/two"))
    assert other.cached(manifest.fingerprint).digest == manifest.digest
    path = f"{run.pipeline_path}/cache/{manifest.fingerprint}.json"
    other._write(path, json.dumps(entry))
    assert other.cached(manifest.fingerprint) is None


def test_a_manifest_of_a_newer_release_is_no_result_and_computed_again(store, run, night):
    manifest = night(Write())
    run.write_json("ingest/manifest.json", {**manifest.model_dump(), "of_tomorrow": 1})
    assert run.read_manifest("ingest") is None
    again = Write()
    night(again)
    assert again.computed == 1


def test_credentials_that_have_expired_are_worth_another_attempt(store, run):
    store.fault = lambda method, target: (
        400,
        b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message>"
        b"</Error>",
    )
    with pytest.raises(StageError, match="refuses for now") as caught:
        run.write_json("a.json", {})
    assert caught.value.exit_code == 1
    store.fault = lambda method, target: DENIED
    with pytest.raises(BadConfig, match="check credentials"):
        run.write_json("a.json", {})


def test_a_full_disk_is_not_the_stores_fault():
    with pytest.raises(StageError, match=r"no space is left.*ephemeral_storage"):
        with storage_errors("s3://nights/a"):
            raise OSError(errno.ENOSPC, "No space left on device", "/scratch/a")
    with pytest.raises(StageError, match="this machine's disk failed"):
        with storage_errors("s3://nights/a"):
            raise PermissionError(errno.EACCES, "Permission denied", "/scratch/a")


def test_a_source_of_many_pages_is_listed_as_a_whole(store):
    store.fs.pipe({f"nights/films/images/{number:05}ö.png": b"x" for number in range(2100)})
    found = listing(store.url("films"), ["images"])
    assert len(found) == 2100
    assert "images/02099ö.png" in found
    assert store.count("list-type=2") >= 3


def test_names_in_any_script_come_back(store, run, tmp_path):
    folder = tmp_path / "left"
    names = ["röntgen ø.png", "肺 100%.png", "a+b=c&d?#e.png", "u\u0308.png", "ü.png", "x" * 250]
    (folder / "images").mkdir(parents=True)
    for name in names:
        (folder / "images" / name).write_text(name)
    (folder / "Überblick 100%+1?.csv").write_text("1")
    listed = describe_outputs(folder)
    store_outputs(run, "ingest", folder, listed)
    manifest = Manifest(
        stage="ingest",
        fingerprint="f",
        location=run.stage_uri("ingest"),
        outputs=listed,
    ).sealed()
    assert run.stands(manifest)
    cache = InputCache()
    assert sorted(path.name for path in cache.path(manifest, "images/").iterdir()) == sorted(names)
    assert cache.path(manifest, "Überblick 100%+1?.csv").read_text() == "1"
    assert {stored_name(each, local=False) for each in listed} == {
        Path(name).name for name in store.files("films/runs/one/ingest")
    }


@ANY_KEY
def test_a_model_server_writes_nothing_outside_of_its_folder(store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    store.fs.pipe_file("nights/models/films/1/saved_model.pb", b"x")
    key = "models/films/1/../../../outside"
    store.fs.call_s3("put_object", Bucket="nights", Key=key, Body=b"x")
    with pytest.raises(Refused, match=r"object '../../../outside' is no plain path"):
        fetch_model(store.url("models/films/1"), digest="0" * 64)
    assert not (tmp_path / "outside").exists()
