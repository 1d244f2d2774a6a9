"""Exports of one model are told from exports of two, whatever TensorFlow counted before."""

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef

from tasks.contract import tree_sha256
from tasks.same_model import is_same_model
from tasks.training import export
from tasks.training.export import export_model


def classifier(seed: int) -> Any:
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Conv2D(3, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )


def exported(folder: Path, model: Any) -> Path:
    export_model(model, folder, name="films", classes=["a", "b"], positive=None)
    return folder


@pytest.fixture
def twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """One model, exported as an earlier release did: wherever the counter was."""
    monkeypatch.setattr(export, "_COUNTER_STEP", 1)
    model = classifier(1)
    return exported(tmp_path / "one", model), exported(tmp_path / "two", model)


def test_two_exports_of_one_model_are_the_same_model(twice: tuple[Path, Path]) -> None:
    one, two = twice
    assert tree_sha256(one) != tree_sha256(two)
    assert is_same_model(one, two)
    with_id = FingerprintDef.FromString((two / "fingerprint.pb").read_bytes())
    with_id.uuid = "42"
    (two / "fingerprint.pb").write_bytes(with_id.SerializeToString())
    assert is_same_model(one, two)


def test_other_weights_or_another_graph_are_another_model(
    twice: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = twice
    assert not is_same_model(one, exported(tmp_path / "weights", classifier(2)))
    model = classifier(1)
    monkeypatch.setattr(export, "decode_batch", lambda files, **more: np.zeros((1, 8, 8, 1)))
    graph = exported(tmp_path / "graph", model)
    assert (graph / "model.json").read_bytes() == (one / "model.json").read_bytes()
    assert not is_same_model(one, graph)


def test_a_file_more_or_less_is_another_model(twice: tuple[Path, Path]) -> None:
    one, two = twice
    (two / "note.txt").write_text("more")
    assert not is_same_model(one, two)
    shutil.rmtree(one / "variables")
    assert not is_same_model(two, one)


def test_an_export_keeps_the_hashes_of_the_model_and_no_random_id(tmp_path: Path) -> None:
    folder = exported(tmp_path / "model", classifier(1))
    fingerprint = FingerprintDef.FromString((folder / "fingerprint.pb").read_bytes())
    assert fingerprint.checkpoint_hash and fingerprint.graph_def_program_hash
    assert not fingerprint.uuid
