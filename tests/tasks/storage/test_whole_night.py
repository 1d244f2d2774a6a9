"""A night of the demo on S3 with PostgreSQL behind MLflow, against the same night on local disk.

On S3 each stage has the rights of its role and no other.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from tasks.contract import CHECKS, RunDirectory
from tasks.reporting.summary import read_summary
from tasks.runner import run_stage
from tasks.spec import apply_overrides, load_pipeline
from tasks.stages import load_stage
from tasks.tracking import RUN_URI_TAG, mlflow_client
from tests.kubernetes.iam import POLICIES, policy_for
from tests.s3_server import MASTER, credentials, serve
from tests.tasks.places import environment_at
from tests.tasks.storage.conftest import BUCKET

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
RUN = "retraining/demo/runs/one"
SPEED = ("train.images_per_second",)


@pytest.fixture(scope="module")
def s3_of_roles():
    """An S3 API that knows the roles, which also keep their artifacts themselves here."""
    artifacts = policy_for("trusted-retraining-mlflow", BUCKET)["Statement"]
    policies = {role: policy_for(role, BUCKET) for role in POLICIES}
    for policy in policies.values():
        policy["Statement"] += artifacts
    with serve(policies=policies) as address:
        yield address


@pytest.fixture
def become(monkeypatch):
    """Have what follows done by an identity of the S3 API."""

    def become(name):
        for variable, value in credentials(name).items():
            monkeypatch.setenv(variable, value)
        S3FileSystem.clear_instance_cache()

    return become


def night(root, environment, stages=(*BEFORE, "bless"), run_id="one", become=lambda role: None):
    for name in stages:
        # as the accounts of the pods have them
        become(f"trusted-retraining-{name if name in ('bless', 'publish') else 'stage'}")
        run = RunDirectory(f"{root}/demo/runs/{run_id}")
        run_stage(load_stage(name), pipeline=PIPELINE, run=run, environment=environment)
    if "bless" in stages:
        rest = ("publish" if run.read_verdict().blessed else "reject", "report")
        night(root, environment, rest, run_id, become)
    return run


@pytest.mark.e2e
@pytest.mark.parametrize("address", ["s3_of_roles"], indirect=True)
def test_a_night_on_s3_comes_to_the_same_verdict_as_on_local_disk(
    store, become, postgres, tmp_path
):
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
    night("s3://nights/retraining", there, become=become)
    become(MASTER)
    remote = RunDirectory(f"s3://nights/{RUN}")

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
    second = night("s3://nights/retraining", there, BEFORE, "two", become)
    become(MASTER)
    for name in BEFORE:
        assert second.read_manifest(name).reused_from == remote.uri, name


def _objects_are_few(store):
    names = [name.removeprefix(f"{RUN}/") for name in store.files("retraining/demo/runs")]
    assert len(names) < 70
    assert {"ingest/images.tar", "train/model.tar", "arrange/test_shards.tar"} <= set(names)
    assert "arrange/folders.tar" not in names


def _published(store, run, verdict):
    publication = json.loads(store.fs.cat_file(f"nights/{RUN}/publish/publication.json"))
    folder = f"retraining/models/demo/1-{verdict.model.digest[:12]}"
    assert publication["model_uri"] == f"s3://nights/{folder}"
    assert publication["model"]["digest"] == verdict.model.digest
    assert f"{folder}/saved_model.pb" in store.files("retraining/models")


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
