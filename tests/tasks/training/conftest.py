"""Small real images, arranged as the data stages leave them, and one model trained on them."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.contract import Manifest, RunDirectory, describe_outputs, sha256_file
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tests.tasks.places import environment_at

SIZE = 16


@dataclass(frozen=True)
class Night:
    """A committed run and what it was made with."""

    pipeline: Pipeline
    run: RunDirectory
    environment: Environment
    manifests: dict[str, Manifest]

    def folder(self, stage: str) -> Path:
        """Return a stage's folder."""
        return Path(self.run.path) / stage


def make_pipeline(**train: Any) -> Pipeline:
    settings = {"architecture": "dense", "image_size": [SIZE, SIZE], "channels": 1, "epochs": 4}
    return Pipeline.model_validate(
        {
            "name": "bars",
            "source": {"kind": "synthetic"},
            "label": {"column": "side"},
            "train": settings | {"validation_split": 0.2, "batch_size": 8} | train,
            "evaluate": {"bootstrap": 200},
        }
    )


def make_environment(folder: Path, *, mlflow_uri: str = "") -> Environment:
    return environment_at(folder, mlflow_uri=mlflow_uri)


def bar_picture(generator: np.random.Generator, side: int) -> Image.Image:
    """A noisy grey picture with a bright half: the left one (0) or the right one (1)."""
    pixels = generator.integers(0, 120, (SIZE, SIZE), dtype=np.uint8)
    half = slice(0, SIZE // 2) if side == 0 else slice(SIZE // 2, SIZE)
    pixels[:, half] += np.uint8(60)
    return Image.fromarray(pixels)


def arrange(run: RunDirectory, *, rows: int = 96, seed: int = 3) -> Manifest:
    """Commit ``arrange``: two images a patient, every fourth patient in the test set."""
    folder = Path(run.path) / "arrange"
    generator = np.random.default_rng(seed)
    table = []
    for row in range(rows):
        side = int(generator.integers(2))
        split = "test" if row // 2 % 4 == 0 else "train"
        name = f"{row:03d}.png"
        path = folder / "folders" / split / ("left", "right")[side] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bar_picture(generator, side).save(path)
        table.append(
            {
                "image_id": name,
                "image_path": path.relative_to(folder / "folders").as_posix(),
                "shard": None,
                "image_sha256": sha256_file(path),
                "split_side": split,
                "class_name": ("left", "right")[side],
                "class_index": side,
                "group_key": f"patient{row // 2}",
                "region_path": None,
            }
        )
    pd.DataFrame(table).to_parquet(folder / "images.parquet")
    document = {"classes": ["left", "right"], "positive": "right"}
    (folder / "classes.json").write_text(json.dumps(document))
    outputs = describe_outputs(folder)
    manifest = Manifest(
        stage="arrange",
        fingerprint="f",
        location=run.stage_uri("arrange"),
        outputs=outputs,
    ).sealed()
    run.write_manifest(manifest)
    return manifest


def run_night(root: Path, pipeline: Pipeline, *stages: str, mlflow_uri: str = "") -> Night:
    run = RunDirectory(str(root / "bars" / "runs" / "night1"))
    if run.read_manifest("arrange") is None:
        arrange(run)
    environment = make_environment(root, mlflow_uri=mlflow_uri)
    manifests = {
        stage: run_stage(load_stage(stage), pipeline=pipeline, run=run, environment=environment)
        for stage in stages
    }
    return Night(pipeline, run, environment, manifests)


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Trained and evaluated once for all tests, which must not change it."""
    return run_night(
        tmp_path_factory.mktemp("night"), make_pipeline(epochs=12), "train", "evaluate"
    )


@pytest.fixture(scope="session")
def nightly() -> Callable[..., Night]:
    """``nightly(root, pipeline, *stages)`` runs stages on the bars."""
    return run_night


@pytest.fixture(scope="session")
def bars() -> Callable[..., Pipeline]:
    """``bars(**train)`` makes a pipeline."""
    return make_pipeline


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """``encode(image, format)`` gives the bytes of the file."""

    def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encoded
