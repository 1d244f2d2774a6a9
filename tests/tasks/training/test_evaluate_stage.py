"""What the evaluate stage leaves for the checks, the gate and the report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks import registry, tracking
from tasks.contract import BadInput, RunDirectory
from tasks.data.trained_on import TRAINED_ON, TrainedOn
from tasks.registry_trained_on import keep_trained_on
from tasks.runner import run_stage
from tasks.spec import apply_overrides
from tasks.stages import load_stage
from tasks.stages.champion_saw import Saw
from tasks.stages.champion_trained_on import ChampionTrainedOn
from tasks.training import plots
from tasks.training.export import export_model
from tasks.training.plots import plot_answers, plot_confusion
from tasks.training.prediction import SavedClassifier


def test_predictions_are_kept_row_by_row(night: Any) -> None:
    answers = pd.read_parquet(night.folder("evaluate") / "predictions.parquet")
    images = pd.read_parquet(night.folder("arrange") / "images.parquet")
    test = images[images["split_side"] == "test"].reset_index(drop=True)
    assert answers["image_id"].tolist() == test["image_id"].tolist()
    assert answers["class_index"].tolist() == test["class_index"].tolist()
    probabilities = np.stack(answers["probabilities"].tolist())
    assert probabilities.argmax(axis=1).tolist() == answers["predicted_index"].tolist()
    assert (answers["correct"] == (answers["predicted_index"] == answers["class_index"])).all()
    assert answers["champion_predicted_index"].isna().all()
    assert answers["champion_probabilities"].isna().all()
    accuracy = night.manifests["evaluate"].metrics["evaluate.accuracy"]
    assert answers["correct"].mean() == pytest.approx(accuracy)


def test_the_metrics_carry_intervals_and_reasons(night: Any) -> None:
    manifest = night.manifests["evaluate"]
    metrics = manifest.metrics
    for name in ("accuracy", "balanced_accuracy"):
        low, high = (metrics[f"evaluate.{name}.{end}"] for end in ("low", "high"))
        assert low <= metrics[f"evaluate.{name}"] <= high
    assert metrics["evaluate.roc_auc"] > 0.8
    assert "test images found" in manifest.notes["evaluate.least_recall"]
    document = json.loads((night.folder("evaluate") / "evaluation.json").read_text())
    assert sum(map(sum, document["confusion_matrix"])) == metrics["evaluate.rows"] == 24


@pytest.mark.parametrize(
    "figure", ["confusion_matrix.png", "curves.png", "mistakes.png", "answers.png"]
)
def test_figures_are_drawn(night: Any, figure: str) -> None:
    with Image.open(night.folder("evaluate") / figure) as image:
        assert min(image.size) > 100
        assert len(image.convert("L").getcolors()) > 10


def test_answers_are_shown_of_every_class_with_their_confidence(
    night: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: dict[str, Any] = {}

    def noted(pictures: Any, captions: Any, path: Path, *, title: str) -> None:
        shown[path.name] = (len(pictures), captions, title)
        path.write_bytes(b"drawn")

    monkeypatch.setattr(plots, "plot_answers", noted)
    run = RunDirectory(str(tmp_path / "bars" / "runs" / "shown"))
    for stage in ("arrange", "train"):
        run.write_manifest(night.run.read_manifest(stage))
    again = apply_overrides(night.pipeline, {"evaluate.answers": 6})
    run_stage(load_stage("evaluate"), pipeline=again, run=run, environment=night.environment)
    count, captions, title = shown["answers.png"]
    assert count == 6 and title.startswith("Answers to 6 of 24 test images")
    predictions = pd.read_parquet(night.folder("evaluate") / "predictions.parquet")
    truths = set()
    for caption in captions:
        name, true, predicted = caption.split("\n")
        row = predictions[predictions["image_id"] == name].iloc[0]
        assert predicted.endswith(f"({max(row['probabilities']):.0%})")
        truths.add(true)
    assert truths == {"true: left", "true: right"}


def test_a_gap_between_logged_and_inference_accuracy_warns(night: Any, tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path / "bars" / "runs" / "gap"))
    for stage in ("arrange", "train"):
        run.write_manifest(night.run.read_manifest(stage))
    trained = run.read_manifest("train")
    spoilt = {**trained.metrics, "train.accuracy_logged": 0.99, "train.accuracy_inference": 0.5}
    run.write_manifest(trained.model_copy(update={"metrics": spoilt}).sealed())
    manifest = run_stage(
        load_stage("evaluate"), pipeline=night.pipeline, run=run, environment=night.environment
    )
    assert "batch norm has not settled" in manifest.warnings[0]


def test_the_champion_answers_the_same_rows_and_a_promoted_model_is_not_asked_again(
    tmp_path: Path, nightly: Callable[..., Any], bars: Callable[..., Any]
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"

    def promote(night: Any, label: str) -> None:
        run_id = tracking.find_or_create_run(
            pipeline=night.pipeline, run=night.run, environment=night.environment
        )
        model = night.folder("train") / "model"
        version = registry.register(
            night.environment,
            model_name="bars",
            model_dir=model,
            digest=night.manifests["train"].output("model/").sha256,
            run_id=run_id,
            example=lambda: next(night.folder("arrange").rglob("*.png")).read_bytes(),
            tags={"from": label},
        )
        registry.set_alias(night.environment, "bars", registry.CHAMPION, version)

    old = nightly(tmp_path / "old", bars(epochs=1, seed=5), "train", mlflow_uri=store)
    promote(old, "old")
    new = nightly(tmp_path / "new", bars(epochs=3), "train", "evaluate", mlflow_uri=store)
    answers = pd.read_parquet(new.folder("evaluate") / "predictions.parquet")
    theirs = np.stack(answers["champion_probabilities"].tolist())
    assert not np.allclose(theirs, np.stack(answers["probabilities"].tolist()))
    right = (answers["champion_predicted_index"] == answers["class_index"]).mean()
    assert new.manifests["evaluate"].metrics["evaluate.champion.accuracy"] == pytest.approx(right)

    promote(new, "new")
    next_night = RunDirectory(str(tmp_path / "new" / "bars" / "runs" / "night2"))
    next_night.write_manifest(new.run.read_manifest("arrange"))
    again = {
        stage: run_stage(
            load_stage(stage), pipeline=new.pipeline, run=next_night, environment=new.environment
        )
        for stage in ("train", "evaluate")
    }
    assert again["train"].reused_from == new.run.uri
    assert again["evaluate"].reused_from == new.run.uri


def test_the_champion_is_not_compared_on_what_it_was_trained_on(
    tmp_path: Path, nightly: Callable[..., Any], bars: Callable[..., Any]
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    old = nightly(tmp_path / "old", bars(epochs=1, seed=5), "train", mlflow_uri=store)
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
    unknown = nightly(tmp_path / "new", bars(epochs=2), "train", "evaluate", mlflow_uri=store)
    answers = pd.read_parquet(unknown.folder("evaluate") / "predictions.parquet")
    assert answers["champion_saw"].isna().all()
    assert "was trained on is not known" in unknown.manifests["evaluate"].warnings[-1]

    table = pd.read_parquet(old.folder("arrange") / "images.parquet")
    seen = table.index[table["split_side"] == "test"][:10]
    record = TrainedOn.of(table.loc[seen].assign(split_side="train"), old.pipeline.split)
    record.write(tmp_path / TRAINED_ON)
    keep_trained_on(
        old.environment, "bars", version, record=tmp_path / TRAINED_ON, digest=record.digest
    )
    (tmp_path / "known").mkdir()
    known = nightly(tmp_path / "known", bars(epochs=2), "train", "evaluate", mlflow_uri=store)
    answers = pd.read_parquet(known.folder("evaluate") / "predictions.parquet")
    saw = answers["champion_saw"].to_numpy(bool)
    assert set(answers.loc[saw, "image_id"]) == set(table.loc[seen, "image_id"])
    right = answers["champion_predicted_index"] == answers["class_index"]
    manifest = known.manifests["evaluate"]
    assert manifest.metrics["evaluate.champion.accuracy"] == pytest.approx(right[~saw].mean())
    assert "10 of 24 test images are left out of the comparison" in manifest.warnings[-1]
    document = json.loads((known.folder("evaluate") / "evaluation.json").read_text())
    assert document["champion"]["rows_left_out"] == 10
    assert document["champion"]["trained_on_known"]

    # a film of a patient, under a column that is no longer there, has gone since
    elsewhere = record.settings | {"group": "patient"}
    row = (b"x" * 32, b"", b"y" * 32, b"z" * 32)
    gone = TrainedOn(settings=elsewhere, rows=record.rows | {row})
    gone.write(tmp_path / TRAINED_ON)
    (tmp_path / "gone").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tasks.stages.champion_saw.trained_on",
            lambda *_: ChampionTrainedOn(name="the champion", record=gone),
        )
        doubt = nightly(tmp_path / "gone", bars(epochs=2), "train", "evaluate", mlflow_uri=store)
    answers = pd.read_parquet(doubt.folder("evaluate") / "predictions.parquet")
    assert (answers["champion_saw"].sum(), answers["champion_saw"].isna().sum()) == (10, 14)
    assert "there is no column 'patient' now" in doubt.manifests["evaluate"].warnings[-1]
    told = [None if pd.isna(value) else bool(value) for value in answers["champion_saw"]]
    assert told == Saw(answers["champion_saw"].notna().to_numpy(), certain=False).told()
    document = json.loads((doubt.folder("evaluate") / "evaluation.json").read_text())
    assert not document["champion"]["trained_on_known"]


@pytest.mark.parametrize("number", [2, 10, 25])
def test_a_confusion_matrix_of_any_size_is_drawn(number: int, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 50, (number, number))
    names = [f"a rather long class name {i}" for i in range(number)]
    plot_confusion(counts, names, tmp_path / "matrix.png")
    with Image.open(tmp_path / "matrix.png") as image:
        assert image.size[0] < 3000


def test_a_model_without_mistakes_gets_a_figure_that_says_so(tmp_path: Path) -> None:
    plot_answers([], [], tmp_path / "mistakes.png", title="None shown: 0 wrong among 9 test images")
    assert (tmp_path / "mistakes.png").stat().st_size > 1000


def test_answers_that_are_not_numbers_are_no_answers(tmp_path: Path, encode: Any) -> None:
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    )
    model.set_weights([np.full((16, 2), np.nan), np.zeros(2)])
    export_model(model, tmp_path / "model", name="m", classes=["a", "b"], positive=None)
    picture = encode(Image.new("L", (4, 4), 9), "PNG")
    with pytest.raises(BadInput, match="answer to 3 of 3 images is not a number"):
        SavedClassifier(tmp_path / "model").predict([picture] * 3, batch_size=2)
