"""A night of the demo on S3 with PostgreSQL behind MLflow, against the same night on local disk."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contract import CHECKS, RunDirectory
from tasks.reporting.summary import read_summary
from tasks.runner import run_stage
from tasks.spec import apply_overrides, load_pipeline
from tasks.stages import load_stage
from tasks.tracking import RUN_URI_TAG, mlflow_client
from tests.tasks.places import environment_at

PIPELINE = apply_overrides(
    load_pipeline(Path(__file__).parents[3] / "dags/pipelines/demo.yaml"),
    {
        "source.rows": 300,
        "train.epochs": 4,
        "explain.images": 4,
        "explain.samples": 60,
        "robustness.images": 8,
        "robustness.attacks": ["fgsm"],
        "evaluate.bootstrap": 50,
        "blessing.rules": [{"metric": "evaluate.balanced_accuracy", "min": 0.55, "why": "chance"}],
    },
)
BEFORE = ("ingest", "transform", "filter", "arrange", "validate", "train", "evaluate", *CHECKS)
SPEED = ("train.images_per_second",)


def night(root, environment):
    run = RunDirectory(f"{root}/demo/runs/one")
    for name in (*BEFORE, "bless"):
        run_stage(load_stage(name), pipeline=PIPELINE, run=run, environment=environment)
    blessed = run.read_verdict().blessed
    for name in ("publish" if blessed else "reject", "report"):
        run_stage(load_stage(name), pipeline=PIPELINE, run=run, environment=environment)
    return run


@pytest.mark.e2e
def test_a_night_on_s3_comes_to_the_same_verdict_as_on_local_disk(store, postgres, tmp_path):
    here = environment_at(
        tmp_path,
        mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db",
        serving_python=Path(sys.executable),
        state_dir=tmp_path / "state",
    )
    there = replace(
        here,
        mlflow_uri=postgres,
        mlflow_artifacts="s3://nights/mlflow",
        scratch=tmp_path / "scratch",
    )
    local = night(tmp_path / "runs", here)
    remote = night("s3://nights/runs", there)

    ours, theirs = remote.read_verdict(), local.read_verdict()
    assert ours.blessed is theirs.blessed is True
    assert [rule.passed for rule in ours.rules] == [rule.passed for rule in theirs.rules]
    metrics = read_summary(remote)["metrics"]
    expected = read_summary(local)["metrics"]
    different = {
        name: (metrics.get(name), value)
        for name, value in expected.items()
        if name not in SPEED
        and not name.startswith("report.")
        and metrics.get(name) != pytest.approx(value, abs=1e-6)
    }
    assert different == {}
    assert metrics.keys() == expected.keys()

    _objects_are_few(store)
    _published(store, remote, ours)
    _tracked(store, there, remote)
    assert list((tmp_path / "scratch").iterdir()) == []

    # the next night on the same store computes nothing
    second = RunDirectory("s3://nights/runs/demo/runs/two")
    for name in BEFORE:
        manifest = run_stage(load_stage(name), pipeline=PIPELINE, run=second, environment=there)
        assert manifest.reused_from == remote.uri, name


def _objects_are_few(store):
    names = [name.removeprefix("runs/demo/runs/one/") for name in store.files("runs/demo/runs")]
    assert len(names) < 70
    assert {"ingest/images.tar", "train/model.tar", "arrange/test_shards.tar"} <= set(names)
    assert "arrange/folders.tar" not in names


def _published(store, run, verdict):
    publication = json.loads(
        store.fs.cat_file("nights/runs/demo/runs/one/publish/publication.json")
    )
    folder = f"runs/models/demo/1-{verdict.model.digest[:12]}"
    assert publication["model_uri"] == f"s3://nights/{folder}"
    assert publication["model"]["digest"] == verdict.model.digest
    assert f"{folder}/saved_model.pb" in store.files("runs/models")


def _tracked(store, environment, run):
    with mlflow_client(environment) as client:
        experiment = client.get_experiment_by_name("demo")
        assert experiment.artifact_location.startswith("s3://nights/mlflow")
        runs = client.search_runs([experiment.experiment_id])
        assert [each.data.tags[RUN_URI_TAG] for each in runs] == [run.uri]
        version = client.get_model_version_by_alias("demo", "challenger")
        assert version.tags["verdict"] == "blessed"
    names = store.files("mlflow")
    assert any(name.endswith("/report/report.html") for name in names)
    assert any(name.endswith("/saved_model.pb") for name in names)
