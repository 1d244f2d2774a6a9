"""What the train stage leaves: a model that serves as it was trained, and its figures."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.contract import BadConfig, BadInput, RunDirectory, tree_sha256
from tasks.data import Arranged
from tasks.stages.base import StageInput
from tasks.training.images import load_pixels

REPOSITORY = Path(__file__).parents[3]


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open() as stream:
        return [{name: float(v) for name, v in row.items()} for row in csv.DictReader(stream)]


def files_and_pixels(night: Any) -> tuple[list[bytes], Any]:
    arranged = Arranged(StageInput(night.run.read_manifest("arrange")))
    table = arranged.table("test")
    pixels = load_pixels(
        lambda: arranged.read_bytes(table),
        names=list(table["image_id"]),
        image_size=(16, 16),
        channels=1,
        spill=Path("unused"),
    )
    return list(arranged.read_bytes(table)), pixels


def test_files_and_pixels_get_the_same_probabilities(night: Any) -> None:
    files, pixels = files_and_pixels(night)
    served = tf.saved_model.load(str(night.folder("train") / "model"))
    by_file = served.signatures["serving_default"](image_bytes=tf.constant(files))
    by_pixel = served.signatures["tensors"](images=tf.constant(pixels, tf.float32))
    for_gradients = keras.models.load_model(night.folder("train") / "model.keras")
    np.testing.assert_array_equal(by_file["probabilities"], by_pixel["probabilities"])
    np.testing.assert_allclose(
        for_gradients(pixels.astype(np.float32)), by_file["probabilities"], atol=1e-6
    )


def test_the_served_model_says_what_is_wrong_with_bytes_that_are_no_image(night: Any) -> None:
    served = tf.saved_model.load(str(night.folder("train") / "model"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
        served.signatures["serving_default"](image_bytes=tf.constant([b"no picture at all"]))


def test_the_model_folder_tells_how_to_use_it_and_names_no_place(night: Any) -> None:
    folder = night.folder("train") / "model"
    description = json.loads((folder / "model.json").read_text())
    assert description["name"] == "bars"
    assert description["classes"] == ["left", "right"]
    assert description["positive"] == "right"
    assert (description["image_size"], description["channels"]) == ([16, 16], 1)
    assert description["exif_orientation"] == "apply"
    place = str(night.folder("train")).encode()
    assert not [p for p in folder.rglob("*") if p.is_file() and place in p.read_bytes()]
    assert not [
        p for p in folder.rglob("*") if p.is_file() and b"/tasks/training" in p.read_bytes()
    ]


def test_the_manifest_tells_logged_and_inference_accuracy(night: Any) -> None:
    metrics = night.manifests["train"].metrics
    assert metrics["train.epochs"] == 12
    assert metrics["train.accuracy_inference"] > 0.9
    assert metrics["train.accuracy_logged"] == pytest.approx(
        history(night.folder("train"))[-1]["accuracy"]
    )
    assert night.manifests["train"].output("model/").sha256 == tree_sha256(
        night.folder("train") / "model"
    )
    assert not (night.folder("train") / "checkpoints").exists()


def test_a_killed_training_goes_on_where_it_was(
    tmp_path: Path, nightly: Callable[..., Any], bars: Callable[..., Any]
) -> None:
    pipeline = bars(epochs=40, augmentation={"flip": True}, early_stopping=39)
    straight = nightly(tmp_path / "straight", pipeline, "train")
    run = RunDirectory(str(tmp_path / "killed" / "bars" / "runs" / "night1"))
    shutil.copytree(straight.folder("arrange"), Path(run.path) / "arrange")
    manifest = straight.run.read_manifest("arrange")
    run.write_manifest(manifest.model_copy(update={"location": run.stage_uri("arrange")}))
    command = [sys.executable, "-m", "tasks", "train", "--spec", pipeline.to_json(), "--run-uri"]
    command.append(run.uri)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "MLFLOW_TRACKING_URI": ""}

    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment
    )
    for line in child.stdout or ():
        if line.startswith("epoch 3/40"):
            child.send_signal(signal.SIGKILL)
            break
    child.communicate()
    assert run.read_manifest("train") is None
    again = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=True
    )

    assert "resumed after epoch" in again.stdout
    assert "epoch 1/40" not in again.stdout
    figures = [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in history(Path(run.path) / "train")
    ]
    expected = [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in history(straight.folder("train"))
    ]
    assert [row["epoch"] for row in figures] == list(range(1, 41))
    for got, wanted in zip(figures, expected, strict=True):
        assert got == pytest.approx(wanted, abs=1e-4)

    # and in a process of its own, undisturbed, the very same model comes out: its digest, too
    other = RunDirectory(str(tmp_path / "undisturbed" / "bars" / "runs" / "night1"))
    other.write_manifest(manifest.model_copy(update={"location": run.stage_uri("arrange")}))
    subprocess.run(
        [*command[:-1], other.uri], capture_output=True, cwd=REPOSITORY, env=environment, check=True
    )
    digests = {
        each.read_manifest("train").output("model/").sha256  # type: ignore[union-attr]
        for each in (run, other)
    }
    assert len(digests) == 1


def test_a_weights_file_that_changes_or_a_module_that_changes_is_another_training(
    tmp_path: Path, bars: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.training.weights import external_state

    weights = tmp_path / "w.weights.h5"
    weights.write_bytes(b"1")
    train = bars(architecture="mobilenet_v2", channels=3, weights=str(weights)).train
    before = external_state(train)
    weights.write_bytes(b"2")
    assert external_state(train) != before
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "house_models.py").write_text("A = 1")
    train = bars(architecture="house_models:tiny").train
    before = external_state(train)
    (tmp_path / "house_models.py").write_text("A = 2")
    assert external_state(train) != before


def test_a_module_that_is_not_there_is_bad_configuration(bars: Callable[..., Any]) -> None:
    from tasks.training.weights import external_state

    with pytest.raises(BadConfig, match="no_such_module"):
        external_state(bars(architecture="no_such_module:model").train)


def test_images_that_tensorflow_cannot_read_are_named(tmp_path: Path, encode: Any) -> None:
    from PIL import Image

    picture = Image.new("L", (8, 8))
    files = [encode(picture, "PNG"), encode(picture, "TIFF")]
    with pytest.raises(BadInput, match=r"1 images cannot be decoded .*: scan\.tif;"):
        load_pixels(
            lambda: iter(files),
            names=["fine.png", "scan.tif"],
            image_size=(4, 4),
            channels=1,
            spill=tmp_path / "pixels.npy",
        )


def test_the_served_model_holds_every_weight_once(night: Any) -> None:
    stored = tf.train.list_variables(str(night.folder("train") / "model/variables/variables"))
    parameters = sum(int(np.prod(shape)) for name, shape in stored if name.startswith("weights"))
    assert parameters == night.manifests["train"].metrics["train.parameters"]
    assert sum(int(np.prod(shape)) for _, shape in stored if shape) == parameters
