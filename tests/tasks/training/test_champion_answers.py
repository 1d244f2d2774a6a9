"""The champion answers from files that have its digest, or not at all."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest

from tasks import registry, tracking
from tasks.contract import RunDirectory
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.serving.files import Pointer, write_pointer
from tasks.stages import load_stage
from tasks.training.prediction import SavedClassifier


@dataclasses.dataclass
class Champions:
    """A champion of another image size, its copies, and a challenger that is evaluated."""

    old: Any
    new: Any
    place: Environment
    folder: Path

    @property
    def digest(self) -> str:
        return str(self.old.manifests["train"].output("model/").sha256)

    def evaluate(self, place: Environment | None = None, root: str = "") -> tuple[Any, Any]:
        """Evaluate the challenger; return its manifest and the champion's answers."""
        run = RunDirectory(f"{root or self.folder}/bars/runs/again")
        for stage in ("arrange", "train"):
            run.write_manifest(self.new.run.read_manifest(stage))
        manifest = run_stage(
            load_stage("evaluate"),
            pipeline=self.new.pipeline,
            run=run,
            environment=place or self.place,
            reuse="none",
        )
        fs, path = fsspec.url_to_fs(f"{run.uri}/evaluate/predictions.parquet")
        with fs.open(path, "rb") as stream:
            answers = pd.read_parquet(stream)["champion_probabilities"]
        return manifest, None if answers.isna().any() else np.stack(answers.tolist())

    def expected(self) -> Any:
        """Return the champion's answers to the same files."""
        images = pd.read_parquet(self.new.folder("arrange") / "images.parquet")
        paths = images[images["split_side"] == "test"]["image_path"]
        files = [(self.new.folder("arrange") / "folders" / p).read_bytes() for p in paths]
        return SavedClassifier(self.old.folder("train") / "model").predict(files, batch_size=8)


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory,
    nightly: Callable[..., Any],
    bars: Callable[..., Any],
) -> tuple[Any, Any, Path]:
    root = tmp_path_factory.mktemp("champions")
    store = f"sqlite:///{root}/mlflow.db"
    old = nightly(root / "old", bars(epochs=1, image_size=[12, 12]), "train", mlflow_uri=store)
    new = nightly(root / "new", bars(epochs=3), "train")
    version = registry.register(
        old.environment,
        model_name="bars",
        model_dir=old.folder("train") / "model",
        digest=old.manifests["train"].output("model/").sha256,
        run_id=tracking.find_or_create_run(
            pipeline=old.pipeline, run=old.run, environment=old.environment
        ),
        example=lambda: next(old.folder("arrange").rglob("*.png")).read_bytes(),
        tags={},
    )
    registry.set_alias(old.environment, "bars", registry.CHAMPION, version)
    return old, new, root


@pytest.fixture
def champions(prepared: tuple[Any, Any, Path], tmp_path: Path) -> Any:
    old, new, _ = prepared
    registered = registry.champion(old.environment, "bars")
    assert registered is not None
    shutil.copytree(registered.model_dir, tmp_path / "kept")
    place = dataclasses.replace(old.environment, serving_root=tmp_path / "served")
    yield Champions(old, new, place, tmp_path)
    shutil.rmtree(registered.model_dir)
    shutil.copytree(tmp_path / "kept", registered.model_dir)


def spoil(champions: Champions) -> None:
    """Put another model, as whole, in the place of the registered one."""
    registered = registry.champion(champions.place, "bars")
    assert registered is not None
    shutil.rmtree(registered.model_dir)
    shutil.copytree(champions.new.folder("train") / "model", registered.model_dir)


def serve(champions: Champions) -> None:
    folder = champions.place.serving_root / "bars"
    shutil.copytree(champions.old.folder("train") / "model", folder / "1")
    write_pointer(folder, Pointer(version="1", digest=champions.digest, path="1"))


def test_a_champion_of_another_image_size_answers_the_same_files(champions: Champions) -> None:
    manifest, answers = champions.evaluate()
    assert np.allclose(answers, champions.expected(), atol=1e-6)
    assert not [text for text in manifest.warnings if "cannot be compared" in text]
    assert "evaluate.champion.balanced_accuracy" in manifest.metrics


def test_altered_files_in_the_registry_do_not_answer(champions: Champions) -> None:
    spoil(champions)
    manifest, answers = champions.evaluate()
    assert answers is None
    assert "cannot be compared with: the files at" in manifest.warnings[-1]
    assert (
        f"are not those of the champion (digest {champions.digest[:12]})" in manifest.warnings[-1]
    )
    assert "evaluate.champion.accuracy" not in manifest.metrics
    document = json.loads(
        (champions.folder / "bars/runs/again/evaluate/evaluation.json").read_text()
    )
    assert (document["champion"]["version"], document["champion"]["compared"]) == ("1", False)


@pytest.mark.parametrize("gone", [False, True], ids=["altered", "gone"])
def test_the_copy_that_serves_answers_where_the_registry_lost_its_own(
    champions: Champions, gone: bool
) -> None:
    serve(champions)
    spoil(champions)
    if gone:
        registered = registry.champion(champions.place, "bars")
        assert registered is not None
        (registered.model_dir / "saved_model.pb").unlink()
    _, answers = champions.evaluate()
    assert np.allclose(answers, champions.expected(), atol=1e-6)


def test_without_mlflow_the_served_copy_answers_once_it_is_hashed(champions: Champions) -> None:
    serve(champions)
    alone = dataclasses.replace(champions.place, mlflow_uri="")
    _, answers = champions.evaluate(alone)
    assert np.allclose(answers, champions.expected(), atol=1e-6)
    (champions.place.serving_root / "bars/1/model.json").write_text("{}")
    manifest, answers = champions.evaluate(alone)
    assert (
        answers is None and "served/bars/1 are not those of the champion" in manifest.warnings[-1]
    )


@pytest.mark.parametrize("folder", ["1", "1-{digest:.12}"], ids=["version", "version and digest"])
@pytest.mark.parametrize("remote", [False, True], ids=["folder", "store"])
def test_on_a_cluster_without_mlflow_the_published_copy_answers(
    champions: Champions, folder: str, remote: bool
) -> None:
    root = "memory://champions" if remote else str(champions.folder)
    fs, path = fsspec.url_to_fs(f"{root}/models/bars/{folder.format(digest=champions.digest)}")
    fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    fs.put(f"{champions.old.folder('train')}/model/", path, recursive=True)
    pod = dataclasses.replace(
        champions.place, mlflow_uri="", served=f"1:{champions.digest}", scratch=champions.folder
    )
    _, answers = champions.evaluate(pod, root)
    assert np.allclose(answers, champions.expected(), atol=1e-6)
    if remote:
        fs.rm(path.split("/models")[0], recursive=True)


def test_records_that_disagree_leave_the_challenger_alone_and_say_so(champions: Champions) -> None:
    other = dataclasses.replace(champions.place, served=f"9:{'e' * 64}")
    manifest, answers = champions.evaluate(other)
    assert answers is None
    assert "the registry's champion is version 1" in manifest.warnings[-1]
    assert manifest.metrics["evaluate.accuracy"] > 0
