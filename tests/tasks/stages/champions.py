"""Nights with a champion of a few bytes in a real registry, and ways to lose the records of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from tasks import registry
from tasks.contract import (
    Champion,
    Manifest,
    RunDirectory,
    Verdict,
    describe_outputs,
    sha256_file,
    tree_sha256,
)
from tasks.environment import Environment
from tasks.gate.evidence import JUDGED
from tasks.runner import run_stage
from tasks.serving.files import Pointer, write_pointer
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tests.tasks.places import environment_at

FILE: dict[str, Any] = {
    "name": "films",
    "source": {"kind": "synthetic"},
    "label": {"column": "finding"},
    "blessing": {"default_rules": False, "rules": [{"metric": "evaluate.accuracy", "min": 0}]},
}
PIPELINE = Pipeline.model_validate(FILE)
NO_COMPARISON = Pipeline.model_validate(FILE | {"blessing": {**FILE["blessing"], "champion": None}})

Night = Callable[..., RunDirectory]


def place_at(root: Path) -> Environment:
    return environment_at(root, mlflow_uri=f"sqlite:///{root}/mlflow.db", state_dir=root)


def nights_at(root: Path) -> Night:
    """Return a function that commits all that comes before the verdict."""

    def committed(name: str, *, champion: Champion | None = None) -> RunDirectory:
        run = RunDirectory(str(root / "runs/films/runs" / name))
        for stage in JUDGED:
            folder = Path(run.path) / stage
            folder.mkdir(parents=True)
            if stage == "train":
                (folder / "model").mkdir()
                (folder / "model/saved_model.pb").write_text(f"graph of {name}")
            elif stage == "arrange":
                (folder / "folders").mkdir()
                Image.new("L", (8, 8)).save(folder / "folders/a.png")
                row = {
                    "image_id": "a",
                    "image_path": "a.png",
                    "split_side": "test",
                    "image_sha256": sha256_file(folder / "folders/a.png"),
                }
                pd.DataFrame([row]).to_parquet(folder / "images.parquet")
                (folder / "classes.json").write_text('{"classes": ["x", "y"], "positive": null}')
            elif stage == "evaluate":
                rows = {
                    "class_index": [0, 1, 0, 1],
                    "predicted_index": [0, 1, 1, 0],
                    "champion_predicted_index": [0, 1, 0, 1],
                }
                pd.DataFrame(rows).to_parquet(folder / "predictions.parquet")
                known = None if champion is None else champion._asdict()
                (folder / "evaluation.json").write_text(json.dumps({"champion": known}))
            outputs = describe_outputs(folder)
            run.write_manifest(
                Manifest(
                    stage=stage,
                    fingerprint="f",
                    location=run.stage_uri(stage),
                    outputs=outputs,
                    metrics={"evaluate.accuracy": 0.5} if stage == "evaluate" else {},
                ).sealed()
            )
        return run

    return committed


def bless(run: RunDirectory, place: Environment, pipeline: Pipeline = PIPELINE) -> Verdict:
    run_stage(load_stage("bless"), pipeline=pipeline, run=run, environment=place)
    verdict = run.read_verdict()
    assert verdict is not None
    return verdict


def serve(run: RunDirectory, place: Environment, version: str) -> Champion:
    """Put a night's model into service on this machine."""
    model = Path(run.path) / "train/model"
    folder = place.serving_root / "films"
    shutil.copytree(model, folder / version)
    champion = Champion(version, tree_sha256(model))
    write_pointer(folder, Pointer(version=version, digest=champion.digest, path=version))
    return champion


def client_of(place: Environment) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=place.mlflow_uri, registry_uri=place.mlflow_uri)


def without_the_alias(place: Environment) -> None:
    client_of(place).delete_registered_model_alias("films", registry.CHAMPION)


def without_the_version(place: Environment) -> None:
    client_of(place).delete_model_version("films", "1")


def without_the_model(place: Environment) -> None:
    client_of(place).delete_registered_model("films")


def with_another_name(place: Environment) -> None:
    client_of(place).rename_registered_model("films", "old_films")


def with_an_empty_database(place: Environment) -> None:
    object.__setattr__(place, "mlflow_uri", place.mlflow_uri.replace("mlflow.db", "new.db"))


def without_the_digest(place: Environment) -> None:
    client_of(place).delete_model_version_tag("films", "1", "digest")


def with_a_torn_pointer(place: Environment) -> None:
    (place.serving_root / "films/champion.json").write_text('{"version": "1", "dig')


def with_a_dangling_pointer(place: Environment) -> None:
    (place.serving_root / "films/champion.json").unlink()
    (place.serving_root / "films/champion.json").symlink_to("gone.json")


LOSSES = [
    without_the_alias,
    without_the_version,
    without_the_model,
    with_another_name,
    with_an_empty_database,
    without_the_digest,
    with_a_torn_pointer,
    with_a_dangling_pointer,
]
