"""A small arranged data set, and a real S3 API on loopback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem

from tasks.contract import RunDirectory
from tasks.runner import run_stage
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tests.s3_server import credentials
from tests.tasks.places import environment_at

BUCKET = "published"
DOCUMENT: dict[str, Any] = {
    "name": "films",
    "description": "Films that nobody took.",
    "source": {"kind": "synthetic", "rows": 60, "size": 32},
    "filter": ["metadata.finding != 'todo'"],
    "label": {"column": "finding"},
    "split": {"group": "patientid"},
    "validate": {
        "min_rows": 1,
        "min_per_class": 1,
        "min_test_per_class": 1,
        "leakage": "warn",
        "max_class_share": 1,
    },
}


@pytest.fixture(scope="session")
def arranged_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a run up to ``arrange``, with a manifest of ``validate``."""
    run = RunDirectory(str(tmp_path_factory.mktemp("runs") / "films/runs/one"))
    pipeline = Pipeline.model_validate(DOCUMENT)
    environment = environment_at(Path("absent"), scratch=tmp_path_factory.mktemp("scratch"))
    for name in ("ingest", "transform", "filter", "arrange"):
        run_stage(load_stage(name), pipeline=pipeline, run=run, environment=environment)
    manifest = run.read_manifest("arrange")
    assert manifest is not None
    # of so few films no class is large enough; what it would say matters nothing here
    run.write_manifest(manifest.model_copy(update={"stage": "validate", "outputs": []}).sealed())
    return run


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3FileSystem]:
    """Yield the file system of an empty bucket that ``s3://published`` leads to."""
    for name, value in {"AWS_ENDPOINT_URL": s3, **credentials()}.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    fs = S3FileSystem(use_listings_cache=False)
    fs.mkdir(BUCKET)
    yield fs
    fs.rm(BUCKET, recursive=True)
    S3FileSystem.clear_instance_cache()
