"""Order, weights, augmentation, early stopping and checkpoints of a training."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.contract import BadConfig, BadInput
from tasks.spec import Augmentation, Train
from tasks.training import fitting, trainers
from tasks.training.architectures import build_classifier
from tasks.training.checkpoints import Checkpoint, EpochRecord, Progress
from tasks.training.input_pipeline import Examples, balanced_class_weights
from tasks.training.validation_split import validation_rows


def numbered(rows: int) -> Examples:
    """Examples whose pixels hold their own row number."""
    pixels = np.broadcast_to(np.arange(rows, dtype=np.uint8)[:, None, None, None], (rows, 2, 2, 1))
    return Examples(pixels.copy(), np.arange(rows), np.arange(rows))


def order(examples: Examples, epoch: int, *, seed: int = 0) -> list[int]:
    batches = examples.shuffled(4, seed=seed, epoch=tf.Variable(epoch, dtype=tf.int64))
    return [int(i) for images, _ in batches for i in images[:, 0, 0, 0]]


def test_an_epochs_order_depends_on_seed_and_number_alone() -> None:
    examples = numbered(10)
    assert sorted(order(examples, 0)) == list(range(10))
    assert order(examples, 3) == order(examples, 3)
    assert order(examples, 3) != order(examples, 4)
    assert order(examples, 3) != order(examples, 3, seed=1)


def test_every_epoch_of_a_fit_has_its_own_order(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    class Spy(keras.layers.Layer):
        def call(self, images: Any) -> Any:
            tf.py_function(lambda x: seen.append(x.numpy().ravel().tolist()), [images[:, 0, 0]], [])
            return images

    model = keras.Sequential(
        [keras.Input((2, 2, 1)), Spy(), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    )
    train = Train(architecture="dense", image_size=(2, 2), channels=1, epochs=2, batch_size=16)
    examples = numbered(10)
    epoch_orders = [order(examples, epoch) for epoch in (0, 1)]
    fitting.fit(
        model,
        training=examples,
        validation=numbered(3),
        train=train,
        classes=10,
        checkpoints=tmp_path,
        key="k",
    )
    shuffled = [batch for batch in seen if len(batch) == 10]
    assert [sorted(batch) for batch in shuffled] == [list(range(10))] * 2
    assert shuffled[0] != shuffled[1]
    assert sorted(map(sorted, epoch_orders)) == [list(range(10))] * 2


def test_pixels_on_disk_give_the_same_batches(tmp_path: Path) -> None:
    pixels = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2, 1)
    np.save(tmp_path / "p.npy", pixels)
    rows, labels = np.array([4, 1, 3]), np.arange(5)
    mapped = Examples(np.load(tmp_path / "p.npy", mmap_mode="r"), labels, rows)
    held = Examples(pixels, labels, rows)
    for (a, x), (b, y) in zip(mapped.batches(2), held.batches(2), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(x, y)


def test_balanced_weights_make_classes_count_alike() -> None:
    labels = np.array([0, 0, 0, 1])
    weights = balanced_class_weights(labels, classes=2)
    np.testing.assert_allclose(weights, [4 / 6, 2.0])
    assert weights[labels].mean() == pytest.approx(1)


def test_a_class_without_images_has_no_weight() -> None:
    np.testing.assert_allclose(balanced_class_weights(np.array([0, 2]), classes=3), [1.0, 0.0, 1.0])


def test_class_weights_reach_the_loss() -> None:
    examples = Examples(np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 0, 0, 1]), np.arange(4))
    batches = examples.shuffled(
        4, seed=0, epoch=tf.Variable(0, dtype=tf.int64), class_weights=np.array([0.5, 2.0])
    )
    ((_, labels, weights),) = list(batches)
    np.testing.assert_array_equal(weights, np.where(labels.numpy() == 1, 2.0, 0.5))


def test_a_patient_is_either_learned_from_or_watched() -> None:
    groups = [f"p{i // 3}" for i in range(600)]
    watched = validation_rows(groups, share=0.2)
    sides = {
        group: {bool(w) for g, w in zip(groups, watched, strict=True) if g == group}
        for group in set(groups)
    }
    assert all(len(side) == 1 for side in sides.values())
    assert 0.1 < watched.mean() < 0.3


def test_a_patient_stays_on_its_side_as_data_grows() -> None:
    groups = [f"p{i}" for i in range(100)]
    before = validation_rows(groups, share=0.2)
    after = validation_rows([*groups, *(f"q{i}" for i in range(50))], share=0.2)
    np.testing.assert_array_equal(after[:100], before)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_both_sides_hold_a_group_whatever_the_share(share: float) -> None:
    watched = validation_rows(["a", "b", "c"], share=share)
    assert 0 < watched.sum() < 3


def test_a_single_group_cannot_be_split() -> None:
    with pytest.raises(BadInput, match=r"split\.group"):
        validation_rows(["a", "a"], share=0.5)


def test_augmentation_changes_training_only() -> None:
    train = Train(
        architecture="dense",
        image_size=(8, 8),
        channels=1,
        augmentation=Augmentation(flip=True, rotation=0.2, zoom=0.2, contrast=0.3, brightness=0.3),
    )
    images = np.random.default_rng(0).uniform(0, 255, (16, 8, 8, 1)).astype(np.float32)
    layers = keras.Sequential(trainers.augmentation_layers(train.augmentation, seed=0))
    changed = layers(images, training=True).numpy()
    assert np.abs(changed - images).mean() > 5
    assert changed.min() >= 0
    assert changed.max() <= 255
    np.testing.assert_array_equal(layers(images, training=False), images)
    model = build_classifier(train, classes=2, steps_per_epoch=1, weights_file=None)
    trainer = trainers.compiled(model, train)
    np.testing.assert_allclose(trainer(images, training=False), model(images))


def test_early_stopping_returns_the_best_weights(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (40, 4, 4, 1)).astype(np.uint8)
    labels = generator.integers(0, 2, 40)
    training = Examples(noise, labels, np.arange(30))
    validation = Examples(noise, labels, np.arange(30, 40))
    train = Train(
        architecture="dense",
        image_size=(4, 4),
        channels=1,
        epochs=60,
        learning_rate=0.05,
        early_stopping=3,
    )
    fitting.prepare(train)
    model = build_classifier(train, classes=2, steps_per_epoch=1, weights_file=None)
    progress = fitting.fit(
        model,
        training=training,
        validation=validation,
        train=train,
        classes=2,
        checkpoints=tmp_path,
        key="k",
    )
    losses = [record.val_loss for record in progress.history]
    assert progress.stopped
    assert len(losses) < 60
    assert progress.best_epoch == int(np.argmin(losses)) + 1 == len(losses) - 3
    assert fitting.inference_accuracy(model, validation) == pytest.approx(
        progress.history[progress.best_epoch - 1].val_accuracy
    )


def test_a_training_that_diverges_ends_there_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (40, 4, 4, 1)).astype(np.uint8)
    labels = generator.integers(0, 2, 40)
    train = Train(
        architecture="dense",
        image_size=(4, 4),
        channels=1,
        epochs=5,
        optimizer="sgd",
        learning_rate=1e30,
        early_stopping=2,
    )
    fitting.prepare(train)
    with pytest.raises(BadConfig, match=r"diverged; lower train\.learning_rate"):
        fitting.fit(
            build_classifier(train, classes=2, steps_per_epoch=1, weights_file=None),
            training=Examples(noise, labels, np.arange(30)),
            validation=Examples(noise, labels, np.arange(30, 40)),
            train=train,
            classes=2,
            checkpoints=tmp_path,
            key="k",
        )
    assert list(tmp_path.iterdir()) == []


def test_mixed_precision_trains_and_leaves_a_float32_model(
    tmp_path: Path, nightly: Any, bars: Any
) -> None:
    pipeline = bars(mixed_precision="on", epochs=12)
    try:
        night = nightly(tmp_path, pipeline, "train")
    finally:
        keras.config.set_dtype_policy("float32")
    summary = json.loads((night.folder("train") / "training.json").read_text())
    assert summary["arithmetic"] == "mixed_float16"
    assert summary["accuracy_inference"] > 0.8
    model = keras.models.load_model(night.folder("train") / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


RECORD = EpochRecord(1, 0.5, 0.6, 0.7, 0.8, 2.0, 1.5)


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = [tf.Variable([1.0, 2.0]), tf.Variable(3, dtype=tf.int64)]
    progress = Progress(history=[RECORD], best_epoch=1, best_weights=[np.array([7.0])])
    Checkpoint(tmp_path, "key").save(saved, progress)
    fresh = [tf.Variable([0.0, 0.0]), tf.Variable(0, dtype=tf.int64)]
    restored = Checkpoint(tmp_path, "key").restore(fresh)
    assert (restored.history, restored.best_epoch) == ([RECORD], 1)
    np.testing.assert_array_equal(restored.best_weights[0], [7.0])
    np.testing.assert_array_equal(fresh[0], [1.0, 2.0])
    assert int(fresh[1]) == 3


def test_checkpoints_do_not_slow_fast_epochs(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "key")
    variable = tf.Variable(np.ones(100_000, np.float32))
    checkpoint.save_if_due([variable], Progress(history=[RECORD]))
    variable.assign_add(np.ones(100_000, np.float32))
    checkpoint.save_if_due([variable], Progress(history=[RECORD] * 2))
    assert len(Checkpoint(tmp_path, "key").restore([variable]).history) == 1


@pytest.mark.parametrize("fault", ["another key", "cut off", "another shape"])
def test_a_checkpoint_that_does_not_belong_here_is_ignored(tmp_path: Path, fault: str) -> None:
    Checkpoint(tmp_path, "key").save([tf.Variable([1.0, 2.0])], Progress(history=[RECORD]))
    if fault == "cut off":
        file = tmp_path / "epoch.npz"
        file.write_bytes(file.read_bytes()[:-30])
    fresh = tf.Variable([0.0] if fault == "another shape" else [0.0, 0.0])
    key = "other" if fault == "another key" else "key"
    assert Checkpoint(tmp_path, key).restore([fresh]).history == []
    assert float(tf.reduce_sum(fresh)) == 0
