"""Outputs as objects: stored, fetched, verified, throttled, altered."""

import hashlib
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from tasks.contract import (
    Altered,
    BadConfig,
    Manifest,
    NoInput,
    RunDirectory,
    StageError,
    describe_outputs,
    tree_sha256,
)
from tasks.contract.filesystem import BLOCK_BYTES
from tasks.storage import InputCache, Workspace, store_outputs
from tasks.storage.tar_stream import TarStream, extract

SLOW_DOWN = (
    503,
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate."
    b"</Message></Error>",
)


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "left"
    (folder / "images" / "below").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(b"a" * 700)
    (folder / "images" / "below" / "ü and a space.png").write_bytes(b"b" * 512)
    (folder / "images" / f"{'long' * 40}.png").write_bytes(b"")
    (folder / "table.csv").write_text("1,2\n")
    return folder


def commit(run, folder, stage="ingest"):
    listed = describe_outputs(folder)
    store_outputs(run, stage, folder, listed)
    manifest = Manifest(
        stage=stage,
        fingerprint="f",
        location=run.stage_uri(stage),
        outputs=listed,
    ).sealed()
    run.write_manifest(manifest)
    return manifest


def test_a_folder_is_one_object_and_comes_back_as_it_was(store, outputs, tmp_path):
    run = RunDirectory(store.url("films/runs/one"))
    manifest = commit(run, outputs)
    stored = [name.removeprefix("films/runs/one/ingest/") for name in store.files()]
    assert stored == ["images.tar", "manifest.json", "table.csv"]
    with Workspace(tmp_path) as workspace:
        cache = InputCache(workspace)
        folder = cache.path(manifest, "images/")
        assert tree_sha256(folder) == tree_sha256(outputs / "images")
        assert cache.path(manifest, "table.csv").read_text() == "1,2\n"
        asked = len(store.seen)
        assert cache.path(manifest, "images/") == folder
        assert len(store.seen) == asked
    assert not folder.exists()


def test_any_tool_reads_the_tar(store, outputs):
    commit(RunDirectory(store.url("films/runs/one")), outputs)
    raw = store.fs.cat_file("nights/films/runs/one/ingest/images.tar")
    with tarfile.open(fileobj=BytesIO(raw)) as tar:
        assert len(tar.getnames()) == 3
        assert tar.extractfile("below/ü and a space.png").read() == b"b" * 512


def test_the_same_files_make_the_same_tar(outputs):
    first, second = TarStream(outputs), TarStream(outputs)
    whole = first.read(10**9)
    assert len(whole) == first.size
    pieces = []
    while piece := second.read(333):
        pieces.append(piece)
    assert b"".join(pieces) == whole
    assert {len(piece) for piece in pieces[:-1]} == {333}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        ("/etc/outside", tarfile.REGTYPE),
        ("a/./b", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("device", tarfile.CHRTYPE),
    ],
)
def test_a_tar_writes_nothing_but_plain_files_inside(tmp_path, name, kind):
    raw = BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    raw.seek(0)
    with pytest.raises(Altered, match="no plain file"):
        extract(raw, tmp_path / "in", most_bytes=100)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert not list((tmp_path / "in").iterdir())


def test_an_altered_object_is_refused(store, outputs):
    run = RunDirectory(store.url("films/runs/one"))
    manifest = commit(run, outputs)
    path = "nights/films/runs/one/ingest/table.csv"
    store.fs.pipe_file(path, b"1,3\n")
    with pytest.raises(Altered, match=r"table\.csv: is not what ingest committed.*--force"):
        InputCache().path(manifest, "table.csv")
    assert not run.stands(manifest)


def test_an_altered_file_in_a_folder_is_refused(store, outputs):
    run = RunDirectory(store.url("films/runs/one"))
    manifest = commit(run, outputs)
    path = "nights/films/runs/one/ingest/images.tar"
    raw = bytearray(store.fs.cat_file(path))
    raw[raw.index(b"aaaa")] ^= 1
    store.fs.pipe_file(path, bytes(raw))
    with pytest.raises(Altered, match=r"images\.tar: is not what ingest committed: sha256"):
        InputCache().path(manifest, "images/")
    store.fs.pipe_file(path, bytes(raw[:-700]))
    with pytest.raises(Altered, match=r"is no tar|sha256"):
        InputCache().path(manifest, "images/")


def test_a_download_garbled_once_is_fetched_again(store, outputs):
    manifest = commit(RunDirectory(store.url("films/runs/one")), outputs)
    faults = [(200, b"1,4\n")]

    def garble(method, target):
        return faults.pop() if "table.csv" in target and method == "GET" and faults else None

    store.fault = garble
    assert InputCache().path(manifest, "table.csv").read_text() == "1,2\n"


def test_an_object_that_is_gone_is_no_input(store, outputs):
    run = RunDirectory(store.url("films/runs/one"))
    manifest = commit(run, outputs)
    assert run.stands(manifest)
    store.fs.rm_file("nights/films/runs/one/ingest/images.tar")
    assert not run.stands(manifest)
    with pytest.raises(NoInput, match=r"images\.tar: is not there"):
        InputCache().path(manifest, "images/")


def test_throttled_requests_are_repeated(store, outputs):
    run = RunDirectory(store.url("films/runs/one"))
    left = {"PUT": 2, "GET": 2}

    def throttle(method, target):
        if left.get(method):
            left[method] -= 1
            return SLOW_DOWN
        return None

    store.fault = throttle
    manifest = commit(run, outputs)
    assert InputCache().path(manifest, "table.csv").read_text() == "1,2\n"
    assert left == {"PUT": 0, "GET": 0}


@pytest.mark.parametrize(
    "answer",
    [
        (503, b"<Error><Code>ServiceUnavailable</Code><Message>busy</Message></Error>"),
        (400, b"<Error><Code>RequestTimeout</Code><Message>too slow</Message></Error>"),
        (500, b"<Error><Code>InternalError</Code><Message>sorry</Message></Error>"),
        (503, b"not even XML"),
    ],
)
def test_other_answers_that_another_attempt_may_mend_are_repeated(store, answer):
    run = RunDirectory(store.url("films/runs/one"))
    left = [answer]
    store.fault = lambda method, target: left.pop() if left else None
    run.write_json("note.json", {"a": 1})
    assert run.read_json("note.json") == {"a": 1}
    assert not left


def test_a_store_that_stays_away_is_worth_a_retry(store, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store.fault = lambda method, target: (500, b"<Error><Code>InternalError</Code></Error>")
    with pytest.raises(StageError, match=r"s3://nights/films/runs/one/.*the store failed") as told:
        RunDirectory(store.url("films/runs/one")).read_json("pipeline.json")
    assert told.value.exit_code == 1
    assert "\n" not in str(told.value)


def test_a_store_that_refuses_is_a_matter_of_configuration(store):
    store.fault = lambda method, target: (403, b"<Error><Code>AccessDenied</Code></Error>")
    with pytest.raises(BadConfig, match=r"the store refuses.*check credentials"):
        RunDirectory(store.url("films/runs/one")).write_json("pipeline.json", {})


def test_a_bucket_that_does_not_exist_is_told(store):
    with pytest.raises(NoInput, match=r"s3://no-such-bucket/films/runs/one/a\.json: is not there"):
        RunDirectory("s3://no-such-bucket/films/runs/one").write_json("a.json", {})


def test_an_unknown_protocol_is_told():
    with pytest.raises(BadConfig, match="s4://bucket/runs/one: cannot be opened"):
        RunDirectory("s4://bucket/runs/one")


def test_a_large_object_goes_in_parts_and_comes_back(store, tmp_path):
    folder = tmp_path / "left"
    folder.mkdir()
    content = b"".join(hashlib.sha256(bytes([i])).digest() * 2**18 for i in range(5))
    assert len(content) > 2 * BLOCK_BYTES
    (folder / "model.keras").write_bytes(content)
    run = RunDirectory(store.url("films/runs/one"))
    manifest = commit(run, folder, "train")
    assert store.count("partNumber=") == 3
    assert store.files("films/runs/one/train") == [
        "films/runs/one/train/manifest.json",
        "films/runs/one/train/model.keras",
    ]
    assert run.stands(manifest)
    assert InputCache().path(manifest, "model.keras").read_bytes() == content


def test_a_large_folder_is_streamed(store, tmp_path):
    folder = tmp_path / "left"
    (folder / "shards").mkdir(parents=True)
    for number in range(3):
        content = hashlib.sha256(bytes([number])).digest() * 2**18
        (folder / "shards" / f"{number}.tar").write_bytes(content)
    manifest = commit(RunDirectory(store.url("films/runs/one")), folder, "arrange")
    cache = InputCache()
    fetched = cache.path(manifest, "shards/")
    assert tree_sha256(fetched) == tree_sha256(folder / "shards")


def test_what_a_killed_process_left_is_swept(tmp_path):
    left = tmp_path / "trusted-retraining-left"
    left.mkdir()
    (left / ".lock").touch()
    (tmp_path / "somebody-elses").mkdir()
    with Workspace(tmp_path) as first, Workspace(tmp_path) as second:
        assert first.folder.is_dir() and second.folder.is_dir()
        assert not left.exists()
    assert [path.name for path in Path(tmp_path).iterdir()] == ["somebody-elses"]
