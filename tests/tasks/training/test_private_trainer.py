"""DP-SGD's step: what an image may contribute, what noise is added, which images are drawn."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.contract import BadConfig
from tasks.spec import Train
from tasks.training import fitting
from tasks.training.input_pipeline import Examples
from tasks.training.privacy_budget import plan_budget
from tasks.training.private_trainer import (
    PrivateTrainer,
    noised_class_weights,
    refuse_shared_state,
)

CLIP = 2.1


def small_cnn(*extra: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            *extra,
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def trainer_of(model: Any, *, noise: float = 1.0, chunk: int = 4, **options: Any) -> Any:
    trainer = PrivateTrainer(
        [keras.Input(model.input_shape[1:]), model],
        l2_norm_clip=CLIP,
        noise_multiplier=noise,
        batch_size=10,
        chunk=chunk,
        **options,
    )
    trainer.compile(
        optimizer=keras.optimizers.SGD(1.0), loss="sparse_categorical_crossentropy", metrics=[]
    )
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def batch(rows: int, seed: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    images = generator.uniform(0, 255, (rows, 8, 8, 1)).astype(np.float32)
    return tf.constant(images), tf.constant(generator.integers(0, 3, rows), tf.int32)


def gradient_of_one(model: Any, image: Any, label: Any, weight: float = 1.0) -> Any:
    """The gradient of a single image, computed without anything of the private step."""
    with tf.GradientTape() as tape:
        answer = model(image[None], training=True)
        loss = weight * keras.losses.sparse_categorical_crossentropy(label[None], answer)[0]
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    return np.concatenate([g.numpy().ravel() for g in gradients])


def flat(tensors: Any) -> Any:
    return np.concatenate([np.ravel(t) for t in tensors])


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_the_sum_is_that_of_gradients_clipped_one_by_one(chunk: int) -> None:
    keras.utils.set_random_seed(1)
    model = small_cnn()
    images, labels = batch(7)
    trainer = trainer_of(model, chunk=chunk)
    sums, loss, right = tf.function(trainer.clipped_sums)(images, labels)
    singles = [gradient_of_one(model, x, y) for x, y in zip(images, labels, strict=True)]
    norms = np.array([np.linalg.norm(one) for one in singles])
    assert norms.min() < CLIP < norms.max()  # some are clipped, some are not
    clipped = [one * min(1, CLIP / norm) for one, norm in zip(singles, norms, strict=True)]
    np.testing.assert_allclose(flat(sums), np.sum(clipped, axis=0), rtol=1e-3, atol=2e-6)
    answers = model(images).numpy()
    np.testing.assert_allclose(
        loss, -np.log(answers[np.arange(7), labels.numpy()]).sum(), rtol=1e-4
    )
    assert right == np.sum(answers.argmax(1) == labels.numpy())


def test_one_image_more_moves_the_sum_by_the_clip_at_most() -> None:
    keras.utils.set_random_seed(1)
    weights = tf.Variable([1.0, 1.0, 1e6])
    trainer = trainer_of(small_cnn(), class_weights=weights)
    images, labels = batch(9)
    # an image that is as wrong as can be, of a class that weighs a million times as much
    images = tf.concat([images, 255e4 * tf.ones((1, 8, 8, 1))], axis=0)
    labels = tf.concat([labels, [2]], axis=0)
    anything = tf.TensorSpec([None, 8, 8, 1]), tf.TensorSpec([None], tf.int32)
    sums = tf.function(trainer.clipped_sums, input_signature=anything)
    without, with_it = (flat(sums(images[:n], labels[:n])[0]) for n in (9, 10))
    assert np.linalg.norm(with_it - without) == pytest.approx(CLIP, rel=1e-3)


def test_weights_come_before_the_clip() -> None:
    keras.utils.set_random_seed(1)
    model = small_cnn()
    images, labels = batch(1)
    trainer = trainer_of(model, class_weights=tf.Variable([0.01, 0.01, 0.01]))
    expected = gradient_of_one(model, images[0], labels[0], 0.01)
    assert np.linalg.norm(expected) < CLIP
    np.testing.assert_allclose(
        flat(trainer.clipped_sums(images, labels)[0]), expected, rtol=1e-3, atol=1e-8
    )


def updates(noise: float, rows: int, steps: int) -> Any:
    """Changes of the weights in steps of SGD with rate 1, shape (steps, parameters)."""
    model = small_cnn()
    trainer = trainer_of(model, noise=noise)
    step = tf.function(trainer.train_step, reduce_retracing=True)
    states = [flat(model.get_weights())]
    for _ in range(steps):
        step(batch(rows))
        states.append(flat(model.get_weights()))
    return np.diff(states, axis=0)


def test_a_step_without_images_is_noise_of_the_right_scale() -> None:
    noise, steps = 3.0, 40
    taken = updates(noise, 0, steps)
    values, expected = taken.ravel(), noise * CLIP / 10
    # the sample's standard deviation has a relative error of 1 / sqrt(2n): five of them
    assert values.std() == pytest.approx(expected, rel=5 / np.sqrt(2 * values.size))
    assert abs(values.mean()) < 5 * expected / np.sqrt(values.size)
    fourth = np.mean((values / expected) ** 4)
    assert fourth == pytest.approx(3, abs=5 * np.sqrt(96 / values.size))  # a Gaussian's kurtosis
    # every step and every weight has noise of its own
    correlation = np.corrcoef(taken)[~np.eye(steps, dtype=bool)]
    assert np.abs(correlation).max() < 6 / np.sqrt(taken.shape[1])
    neighbours = np.corrcoef(taken[:, :-1].ravel(), taken[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(values.size)


def test_noise_is_another_in_every_training_whatever_the_seed() -> None:
    keras.utils.set_random_seed(3)
    one = updates(1.0, 0, 1)
    keras.utils.set_random_seed(3)
    other = updates(1.0, 0, 1)
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(one.size)


def test_without_noise_a_step_is_the_clipped_sum_over_the_expected_size() -> None:
    keras.utils.set_random_seed(2)
    model = small_cnn()
    trainer = trainer_of(model, noise=1e-9)
    images, labels = batch(4)
    sums = flat(trainer.clipped_sums(images, labels)[0])
    before = flat([v.numpy() for v in model.trainable_variables])
    logs = trainer.train_step((images, labels))
    after = flat([v.numpy() for v in model.trainable_variables])
    np.testing.assert_allclose(before - after, sums / 10, rtol=1e-3, atol=1e-6)
    assert 0 <= float(logs["accuracy"]) <= 1


def test_dropout_differs_between_images_of_a_batch() -> None:
    keras.utils.set_random_seed(4)
    model = small_cnn(keras.layers.Dropout(0.5))
    trainer = trainer_of(model)
    image, label = batch(1)
    images, labels = tf.repeat(image, 3, axis=0), tf.repeat(label, 3)
    gradients, _, _ = trainer._per_image(images, labels)
    dense = np.asarray(gradients[-2])
    assert not np.allclose(dense[0], dense[1])
    assert not np.allclose(dense[1], dense[2])


def test_dropout_differs_between_layers_of_a_model() -> None:
    keras.utils.set_random_seed(4)
    model = small_cnn(keras.layers.Dropout(0.5), keras.layers.Dropout(0.5))
    images, labels = batch(40)
    gradients, _, _ = trainer_of(model)._per_image(images, labels)
    used = np.any(np.reshape(gradients[-2], (40, -1, 3)) != 0, axis=2)
    scaled, convolved = model.layers[:2]
    alive = np.asarray(convolved(scaled(images))) > 0
    # where both drop the same, half of the inputs of the dense layer are left; else a quarter
    assert np.mean(used) / np.mean(alive) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("what", ["dropout", "augmentation"])
def test_what_is_drawn_by_place_in_the_batch_is_secret(what: str) -> None:
    # were it known, one image more would change what is drawn for those behind it
    def gradients() -> Any:
        keras.utils.set_random_seed(4)
        extra = [keras.layers.Dropout(0.5)] if what == "dropout" else []
        model = small_cnn(*extra)
        flips = [keras.layers.RandomRotation(0.5, seed=3)] if what == "augmentation" else []
        trainer = PrivateTrainer(
            [keras.Input(model.input_shape[1:]), *flips, model],
            l2_norm_clip=CLIP,
            noise_multiplier=1.0,
            batch_size=10,
            chunk=4,
        )
        return np.asarray(trainer._per_image(*batch(8))[0][-2])

    assert not np.allclose(gradients(), gradients())


def test_a_model_that_keeps_statistics_of_images_is_refused() -> None:
    model = small_cnn(keras.layers.BatchNormalization())
    with pytest.raises(BadConfig, match=r"2 variables of the model keep statistics.*moving_mean"):
        refuse_shared_state(model)
    model.layers[2].trainable = False
    refuse_shared_state(model)


def test_an_image_is_drawn_by_chance_and_once_a_step_at_most() -> None:
    rows, size, steps = 200, 8, 400
    pixels = np.broadcast_to(np.arange(rows, dtype=np.uint8)[:, None, None, None], (rows, 2, 2, 1))
    examples = Examples(pixels.copy(), np.arange(rows), np.arange(rows))
    epoch = tf.Variable(0, dtype=tf.int64)
    batches = []
    sampled = examples.sampled(size, epoch=epoch)
    for number in range(steps // 25):
        epoch.assign(number)
        batches += [list(labels) for _, labels in sampled.as_numpy_iterator()]
    assert len(batches) == steps
    assert all(len(set(drawn)) == len(drawn) for drawn in batches)
    # a batch may be empty
    drawn = [label for batch in batches for label in batch]
    counts = np.bincount(drawn, minlength=rows)
    chance = size / rows
    deviations = (counts - steps * chance) / np.sqrt(steps * chance * (1 - chance))
    assert abs(deviations.mean()) < 5 / np.sqrt(rows)
    assert deviations.var() == pytest.approx(1, abs=5 * np.sqrt(2 / rows))  # 0 of a shuffle's
    sizes = np.array([len(drawn) for drawn in batches])
    variance = rows * chance * (1 - chance)  # a binomial's; batches of a shuffle have none
    assert sizes.mean() == pytest.approx(size, abs=5 * np.sqrt(variance / steps))
    assert sizes.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / steps))


def test_draws_are_known_to_nobody_beforehand() -> None:
    examples = Examples(np.zeros((64, 2, 2, 1), np.uint8), np.arange(64), np.arange(64))
    epoch = tf.Variable(0, dtype=tf.int64)
    tf.random.set_seed(0)
    one = [list(labels.numpy()) for _, labels in examples.sampled(16, epoch=epoch)]
    tf.random.set_seed(0)
    assert one != [list(labels.numpy()) for _, labels in examples.sampled(16, epoch=epoch)]


def test_class_weights_are_made_of_noised_counts() -> None:
    labels = np.repeat([0, 1], [9000, 1000])
    draws = np.array(
        [noised_class_weights(labels, classes=2, noise=50).numpy() for _ in range(300)]
    )
    np.testing.assert_allclose((1 / draws).mean(axis=1), 1, rtol=1e-4)
    rare = draws[:, 1]  # (9000 / 1000 + 1) / 2, the counts with noise
    assert rare.mean() == pytest.approx(5.0, rel=0.02)
    assert rare.std() == pytest.approx(4.5 * 50 / 1000, rel=5 / np.sqrt(2 * 200))
    tiny = noised_class_weights(np.array([0, 1]), classes=3, noise=1.0).numpy()
    assert np.isfinite(tiny).all()


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
