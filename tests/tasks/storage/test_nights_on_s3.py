"""The runner on an object store: commit, reuse, kills, checkpoints."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tasks.contract import BadInput, RunDirectory, StageError
from tasks.runner import run_stage
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage
from tasks.storage import mirror
from tests.tasks.places import environment_at

PIPELINE = Pipeline.model_validate(
    {"name": "films", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
)


class Write(Stage):
    """Writes a file and a folder; counts how often it is computed."""

    name = "ingest"
    scratch = ("checkpoints", ".fetched")
    mirrored = ("checkpoints/epoch.npz",)

    def __init__(self, size=8, error=None):
        self.computed, self.size, self.error = 0, size, error

    def config(self, pipeline):
        return self.size

    def run(self, context):
        self.computed += 1
        self.found = sorted(path.name for path in context.out.rglob("*") if path.is_file())
        if self.error:
            (context.out / "checkpoints").mkdir()
            (context.out / "checkpoints" / "epoch.npz").write_bytes(b"epoch 1")
            (context.out / ".fetched").mkdir()
            (context.out / ".fetched" / "part").write_bytes(b"half")
            raise self.error
        (context.out / "images").mkdir()
        (context.out / "images" / "a").write_bytes(np.random.default_rng(1).bytes(self.size))
        (context.out / "rows.csv").write_text("1\n")
        return Outcome(metrics={"rows": 1})


class Read(Stage):
    """Reads what ``Write`` wrote."""

    name = "transform"
    reads = ("ingest",)

    def config(self, pipeline):
        return None

    def run(self, context):
        source = context.input("ingest")
        (context.out / "copy").write_bytes((source.path("images/") / "a").read_bytes())
        (context.out / "rows.csv").write_text(source.path("rows.csv").read_text() + "2\n")
        return Outcome()


@pytest.fixture
def night(store, tmp_path):
    environment = environment_at(
        tmp_path, serving_python=Path(sys.executable), scratch=tmp_path / "scratch"
    )

    def run(stage, run_id="one", *, force=False):
        directory = RunDirectory(store.url(f"films/runs/{run_id}"))
        return run_stage(
            stage,
            pipeline=PIPELINE,
            run=directory,
            environment=environment,
            reuse="none" if force else "all",
        )

    run.scratch = tmp_path / "scratch"
    return run


def test_stages_hand_on_through_the_store_and_leave_nothing_behind(store, night):
    night(Write())
    manifest = night(Read())
    assert manifest.location == "s3://nights/films/runs/one/transform"
    assert store.files("films/runs") == [
        "films/runs/one/ingest/images.tar",
        "films/runs/one/ingest/manifest.json",
        "films/runs/one/ingest/rows.csv",
        "films/runs/one/pipeline.json",
        "films/runs/one/run.json",
        "films/runs/one/transform/copy",
        "films/runs/one/transform/manifest.json",
        "films/runs/one/transform/rows.csv",
    ]
    assert store.fs.cat_file("nights/films/runs/one/transform/rows.csv") == b"1\n2\n"
    assert list(night.scratch.iterdir()) == []


def test_the_manifest_is_the_last_object(store, night):
    night(Write())
    written = [line for line in store.seen if line.startswith("PUT ") and "/ingest/" in line]
    assert written[-1].endswith("/ingest/manifest.json")


def test_a_night_without_new_data_moves_no_output(store, night):
    first = night(Write())
    del store.seen[:]
    stage = Write()
    second = night(stage, "two")
    assert stage.computed == 0
    assert second.reused_from == "s3://nights/films/runs/one"
    assert second.outputs == first.outputs
    assert not [line for line in store.seen if line.startswith("GET") and ".tar" in line]
    assert "films/runs/two/ingest/images.tar" not in store.files()
    night(Read(), "two")


@pytest.mark.parametrize("damage", ["gone", "another"])
def test_a_result_whose_objects_do_not_stand_is_computed_again(store, night, damage):
    night(Write())
    path = "nights/films/runs/one/ingest/images.tar"
    if damage == "gone":
        store.fs.rm_file(path)
    else:
        store.fs.pipe_file(path, store.fs.cat_file(path)[::-1])
    stage = Write()
    assert night(stage, "two").reused_from is None
    assert stage.computed == 1


def test_a_corrupted_input_ends_the_stage_and_names_the_way_out(store, night):
    night(Write())
    store.fs.pipe_file("nights/films/runs/one/ingest/rows.csv", b"9\n")
    with pytest.raises(BadInput, match=r"rows\.csv: is not what ingest committed"):
        night(Read())
    run = RunDirectory(store.url("films/runs/one"))
    assert run.read_manifest("transform") is None
    assert run.read_failure("transform").exit_code == 65
    # the way out: the stage sees by itself that its result does not stand
    again = Write()
    night(again)
    assert again.computed == 1
    night(Read())
    assert run.read_failure("transform") is None


def test_checkpoints_survive_in_the_store_and_other_scratch_does_not(store, night):
    with pytest.raises(RuntimeError, match="killed"):
        night(Write(error=RuntimeError("killed")))
    assert "films/runs/one/ingest/.scratch/checkpoints/epoch.npz" in store.files()
    stage = Write()
    night(stage)
    assert stage.found == ["epoch.npz"]
    assert not [name for name in store.files() if ".scratch" in name]


def test_a_checkpoint_is_copied_while_the_stage_runs(store, night, monkeypatch):
    monkeypatch.setattr(mirror, "EVERY_SECONDS", 0.05)
    copy = "nights/films/runs/one/ingest/.scratch/checkpoints/epoch.npz"

    class Slow(Write):
        def run(self, context):
            folder = context.out / "checkpoints"
            folder.mkdir()
            self.contents = []
            for epoch in (b"epoch 1", b"epoch 22"):
                (folder / "epoch.new").write_bytes(epoch)
                (folder / "epoch.new").replace(folder / "epoch.npz")
                end = time.monotonic() + 20
                while time.monotonic() < end and epoch not in self.contents:
                    if store.fs.exists(copy):
                        self.contents.append(store.fs.cat_file(copy))
                    time.sleep(0.02)
            return super().run(context)

    stage = Slow()
    night(stage)
    assert {b"epoch 1", b"epoch 22"} <= set(stage.contents)


def test_a_copy_that_fails_does_not_end_the_stage(store, night, monkeypatch, caplog):
    monkeypatch.setattr(mirror, "EVERY_SECONDS", 0.05)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store.fault = lambda method, target: (
        (403, b"<Error><Code>AccessDenied</Code></Error>")
        if ".scratch/" in target and method == "PUT"
        else None
    )

    class Slow(Write):
        def run(self, context):
            (context.out / "checkpoints").mkdir()
            (context.out / "checkpoints" / "epoch.npz").write_bytes(b"1")
            end = time.monotonic() + 20
            while time.monotonic() < end and "could not be copied" not in caplog.text:
                time.sleep(0.02)
            return super().run(context)

    assert night(Slow()).metrics == {"ingest.rows": 1.0}
    assert "epoch.npz could not be copied" in caplog.text


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_nights_on_s3 import PIPELINE, Write
from tasks.contract import RunDirectory
from tasks.environment import Environment
from tasks.runner import run_stage
here = Path(sys.argv[3])
environment = Environment(mlflow_uri="", serving_root=here, serving_python=here, server_url="",
                          code_revision="", scratch=here)
run_stage(Write(40 * 2**20), pipeline=PIPELINE, run=RunDirectory(sys.argv[2]),
          environment=environment)
"""


def test_kill_9_in_the_middle_of_an_upload_commits_nothing_and_a_retry_goes_on(store, night):
    run = RunDirectory(store.url("films/runs/one"))
    arrived = []

    def hang(method, target):
        if "partNumber=3" in target:
            arrived.append(target)
            time.sleep(60)
        return None

    store.fault = hang
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent), run.uri, str(night.scratch)],
        env=dict(os.environ),
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and not (arrived and len(_parts(store)) == 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert run.read_manifest("ingest") is None
    assert "films/runs/one/ingest/images.tar" not in store.files()
    store.fault = lambda method, target: None
    del store.seen[:]
    stage = Write(40 * 2**20)
    manifest = night(stage)
    assert stage.computed == 1
    assert run.stands(manifest)
    # the two parts that had arrived are not sent again
    assert [line.split("partNumber=")[1] for line in store.seen if "partNumber=" in line] == ["3"]
    assert not [name for name in store.files() if name.endswith(".upload")]
    night(Read())
    assert list(night.scratch.iterdir()) == []


def test_an_upload_of_other_bytes_is_not_gone_on_with(store, night):
    run = RunDirectory(store.url("films/runs/one"))
    broken = [(403, b"<Error><Code>AccessDenied</Code></Error>")]
    store.fault = lambda method, target: broken[0] if "partNumber=3" in target else None
    with pytest.raises(StageError, match="the store refuses"):
        night(Write(40 * 2**20))
    assert len(_parts(store)) == 2
    store.fault = lambda method, target: None
    manifest = night(Write(48 * 2**20))
    assert run.stands(manifest)
    assert not store.fs.call_s3("list_multipart_uploads", Bucket="nights").get("Uploads")


def _parts(store):
    listed = store.fs.call_s3("list_multipart_uploads", Bucket="nights").get("Uploads", [])
    return [
        part
        for upload in listed
        for part in store.fs.call_s3(
            "list_parts", Bucket="nights", Key=upload["Key"], UploadId=upload["UploadId"]
        ).get("Parts", [])
    ]


@pytest.mark.parametrize("megabytes", [0, 20], ids=["one put", "in parts"])
def test_an_object_altered_under_its_old_digest_ends_one_night_and_the_next_one_heals(
    store, night, megabytes
):
    class Large(Write):
        def run(self, context):
            outcome = super().run(context)
            (context.out / "rows.csv").write_bytes(b"1\n" + b"\n" * (megabytes * 2**20))
            return outcome

    stage = Large()
    first = night(stage)
    key = "films/runs/one/ingest/rows.csv"
    digest = first.output("rows.csv").sha256
    forged = b"9\n" + b"\n" * (megabytes * 2**20)

    def forge():
        store.fs.call_s3(
            "put_object", Bucket="nights", Key=key, Body=forged, Metadata={"sha256": digest}
        )

    forge()
    # the store says that nothing has happened
    assert night(stage, "two").reused_from is not None
    with pytest.raises(BadInput, match=r"runs/one/ingest/rows\.csv: is not what ingest committed"):
        night(Read(), "two")
    assert night(stage, "two").reused_from is None
    assert stage.computed == 2
    night(Read(), "two")
    assert night(stage, "three").reused_from == "s3://nights/films/runs/two"

    # the way out that the line names, in the run whose object it is
    night(stage, force=True)
    assert store.fs.cat_file(f"nights/{key}")[:2] == b"1\n"
