"""Models made ready for fitting: augmentation in front, optimizer, private or not."""

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tasks.spec import Augmentation, Train
from tasks.training.input_pipeline import Examples

if TYPE_CHECKING:
    from tasks.training.privacy_budget import Budget


def compiled(model: Any, train: Train) -> Any:
    """Return the model behind its augmentation, compiled with the optimizer's state built.

    Augmentation layers do nothing in inference mode and are not part of ``model``.
    """
    return _compile(
        keras.Sequential(_layers(model, train)),
        train,
        steps_per_execution=_steps_per_execution(train),
    )


def compiled_private(
    model: Any, train: Train, training: Examples, *, classes: int, budget: "Budget"
) -> tuple[Any, list[Any]]:
    """Return a private trainer, and what it was told of the data beside the images.

    Parameters
    ----------
    model : keras.Model
        As for :func:`compiled`.
    train : Train
        The section of the pipeline file.
    training : Examples
        What is learned from.
    classes : int
        Number of classes.
    budget : Budget
        Noise and clip.

    Returns
    -------
    trainer : keras.Model
        Compiled, with the optimizer's state built.
    released : list of tf.Variable
        Weights of the classes, where they are wanted: made under noise, once.
    """
    from tasks.training.private_trainer import PrivateTrainer, noised_class_weights

    released = []
    noise = budget.mechanism.class_count_noise
    if noise is not None:
        released = [noised_class_weights(training.labels, classes=classes, noise=noise)]
    chunk = train.privacy.chunk if train.privacy is not None else train.batch_size
    trainer = PrivateTrainer(
        _layers(model, train),
        l2_norm_clip=budget.l2_norm_clip,
        noise_multiplier=budget.mechanism.noise_multiplier,
        batch_size=budget.mechanism.sampling_rate * len(training),
        chunk=chunk,
        class_weights=released[0] if released else None,
    )
    return _compile(trainer, train, steps_per_execution=1), released


def _layers(model: Any, train: Train) -> list[Any]:
    return [
        keras.Input(model.input_shape[1:], dtype="float32"),
        *augmentation_layers(train.augmentation, seed=train.seed),
        model,
    ]


def _compile(trainer: Any, train: Train, *, steps_per_execution: int) -> Any:
    chosen = {"learning_rate": train.learning_rate, "momentum": train.momentum}
    options = {name: value for name, value in chosen.items() if value is not None}
    trainer.compile(
        optimizer=keras.optimizers.get({"class_name": train.optimizer, "config": options}),
        loss=_loss(train.label_smoothing),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        steps_per_execution=steps_per_execution,
        # on a CPU, XLA's convolutions are up to twenty times slower than oneDNN's; and batches of
        # private training differ in size, each of which XLA would compile anew
        jit_compile="auto"
        if tf.config.list_physical_devices("GPU") and train.privacy is None
        else False,
    )
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def _loss(smoothing: float) -> Any:
    if not smoothing:
        return "sparse_categorical_crossentropy"

    def smoothed(labels: Any, answers: Any) -> Any:
        # of numbers of classes Keras smooths none
        targets = keras.ops.one_hot(keras.ops.reshape(labels, (-1,)), answers.shape[-1])
        return keras.losses.categorical_crossentropy(targets, answers, label_smoothing=smoothing)

    return smoothed


def augmentation_layers(augmentation: Augmentation, *, seed: int) -> list[Any]:
    """Return the layers that change training images at random; pixels stay within 0..255.

    Parameters
    ----------
    augmentation : Augmentation
        The section of the pipeline file.
    seed : int
        Seed of the changes.
    """
    layers, a = keras.layers, augmentation
    chosen = [
        a.flip and layers.RandomFlip("horizontal", seed=seed),
        a.rotation and layers.RandomRotation(a.rotation, fill_mode="nearest", seed=seed + 1),
        a.zoom and layers.RandomZoom(a.zoom, fill_mode="nearest", seed=seed + 2),
        a.translation
        and layers.RandomTranslation(
            a.translation, a.translation, fill_mode="nearest", seed=seed + 3
        ),
        a.contrast and layers.RandomContrast(a.contrast, value_range=(0, 255), seed=seed + 4),
        a.brightness and layers.RandomBrightness(a.brightness, value_range=(0, 255), seed=seed + 5),
    ]
    return [layer for layer in chosen if layer]


def _steps_per_execution(train: Train) -> int:
    """Run many steps a call where a step is so small that the call costs more than the step."""
    values = train.batch_size * train.image_size[0] * train.image_size[1] * train.channels
    return 32 if values < 2**16 else 1
