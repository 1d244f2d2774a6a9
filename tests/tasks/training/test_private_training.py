"""Private training as a whole: what it learns, what a kill costs, and what it tells."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tasks.spec import Train
from tasks.training import fitting
from tasks.training.input_pipeline import Examples
from tasks.training.privacy_budget import plan_budget


def bars(rows: int) -> tuple[Examples, Examples]:
    """Noise with a bright left or right half, learnable by anything; 1 in 8 is watched."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, rows)
    pixels = generator.integers(0, 120, (rows, 8, 8, 1)).astype(np.uint8)
    for row, label in enumerate(labels):
        pixels[row, :, 4 * label : 4 * label + 4] += 100
    watched = np.arange(rows) % 8 == 0
    return (
        Examples(pixels, labels, np.flatnonzero(~watched)),
        Examples(pixels, labels, np.flatnonzero(watched)),
    )


def bar_model() -> Any:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )


def private_train(**changes: Any) -> Train:
    settings = {
        "architecture": "dense",
        "image_size": [8, 8],
        "channels": 1,
        "epochs": 4,
        "batch_size": 32,
        "learning_rate": 0.02,
        "privacy": {"noise_multiplier": 1.0, "delta": 1e-4, "chunk": 16},
    }
    return Train.model_validate(settings | changes)


def fit(train: Train, folder: Path, *, rows: int = 512) -> tuple[Any, Any, Any]:
    fitting.prepare(train)
    training, validation = bars(rows)
    budget = plan_budget(train, [str(i) for i in range(len(training))])
    model = bar_model()
    progress = fitting.fit(
        model,
        training=training,
        validation=validation,
        train=train,
        classes=2,
        checkpoints=folder,
        key="k",
        budget=budget,
    )
    return model, progress, budget


def test_private_training_learns_what_is_there_to_learn(tmp_path: Path) -> None:
    augmentation = {"brightness": 0.05}
    train = private_train(class_weights="balanced", augmentation=augmentation, epochs=6)
    _, progress, budget = fit(train, tmp_path)
    assert progress.history[-1].val_accuracy > 0.9
    assert progress.history[-1].accuracy > 0.8
    assert budget.epsilon < 5


def test_noise_drowns_what_there_is_to_learn(tmp_path: Path) -> None:
    sgd = {"optimizer": "sgd", "learning_rate": 0.01, "epochs": 2}
    loud = {"noise_multiplier": 500.0, "delta": 1e-4}
    model, _, budget = fit(private_train(privacy=loud, **sgd), tmp_path)
    assert budget.epsilon < 0.1
    # 28 steps, each with noise of 500 over 32 images: nothing else is of that size
    expected = 0.01 * np.sqrt(28) * 500 / 32
    weights = model.get_weights()[0]
    assert weights.std() == pytest.approx(expected, rel=5 / np.sqrt(2 * weights.size))


def test_steps_taken_before_and_after_a_kill_are_those_of_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = private_train(class_weights="balanced", augmentation={"brightness": 0.05})
    trainers = []
    real = fitting.compiled_private

    def remembered(*args: Any, **options: Any) -> Any:
        made = real(*args, **options)
        trainers.append(made)
        return made

    monkeypatch.setattr(fitting, "compiled_private", remembered)
    saved: list[int] = []

    def killed_after_two(self: Any, variables: Any, progress: Any) -> None:
        self.save(variables, progress)
        saved.append(len(progress.history))
        if len(progress.history) == 2 and len(trainers) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting.Checkpoint, "save_if_due", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        fit(train, tmp_path)
    _, progress, budget = fit(train, tmp_path)
    assert saved == [1, 2, 3, 4]
    assert len(progress.history) == 4
    (first, first_weights), (second, second_weights) = trainers
    assert int(second.optimizer.iterations) == budget.mechanism.steps == 4 * 14
    assert int(first.optimizer.iterations) == 2 * 14
    # the counts of the classes were looked at once, and noised once
    np.testing.assert_array_equal(first_weights[0].numpy(), second_weights[0].numpy())
    # a checkpoint tells no seeds, from which it could be known what was drawn
    assert not [v.path for v in second.lasting_variables if "seed" in v.path]
    assert [v.path for v in second.variables if "seed" in v.path]
    # but no noise is added twice: it could be taken off by comparing
    assert not set(first._keys.ravel()) & set(second._keys.ravel())


def test_a_private_night_tells_its_guarantee(tmp_path: Path, nightly: Any, bars: Any) -> None:
    pipeline = bars(
        epochs=2,
        privacy={"noise_multiplier": 0.9, "delta": 1e-3},
        class_weights="balanced",
        early_stopping=1,
    )
    night = nightly(tmp_path, pipeline, "train", "evaluate")
    manifest = night.manifests["train"]
    metrics = manifest.metrics
    assert 1 < metrics["train.dp.epsilon"] < metrics["train.dp.epsilon_rdp"]
    assert metrics["train.dp.epsilon_group"] > 2 * metrics["train.dp.epsilon"]
    assert metrics["train.dp.delta"] == 1e-3
    # two images a patient; the validation images are not counted among those learned from
    assert metrics["train.dp.images_per_group"] == 2
    assert metrics["train.dp.steps"] == 2 * -(-manifest.rows_out // 8)
    assert metrics["train.dp.sampling_rate"] == pytest.approx(8 / manifest.rows_out)
    assert "by a factor of" in manifest.notes["train.dp.epsilon"]
    assert any("one group has 2 training images" in text for text in manifest.warnings)
    assert night.manifests["evaluate"].metrics["evaluate.rows"] == 24
