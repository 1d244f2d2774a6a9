"""DP-SGD's step: what an image may contribute, what noise is added, which images are drawn."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.contract import BadConfig
from tasks.training.input_pipeline import Examples
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
