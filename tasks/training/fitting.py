"""Fits a model: epochs, progress lines, checkpoints, early stopping."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tasks.contract import BadConfig
from tasks.spec import Train
from tasks.training.checkpoints import Checkpoint, EpochRecord, Progress
from tasks.training.input_pipeline import Examples, balanced_class_weights
from tasks.training.trainers import compiled, compiled_private

if TYPE_CHECKING:
    from tasks.training.privacy_budget import Budget

log = logging.getLogger("tasks")

EVALUATION_BATCH = 256
_LINE_EVERY_SECONDS = 15.0


def prepare(train: Train) -> Literal["float32", "mixed_float16"]:
    """Seed everything, let a GPU's memory grow, and choose the arithmetic.

    Parameters
    ----------
    train : Train
        The section of the pipeline file.

    Returns
    -------
    str
        Keras' name of the arithmetic in force.
    """
    keras.utils.set_random_seed(train.seed)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the device is in use already, its memory is taken
            log.info("the memory of %s cannot be made to grow any more", gpu.name)
    automatic = train.mixed_precision == "auto" and train.privacy is None
    mixed = train.mixed_precision == "on" or (automatic and bool(gpus))
    policy: Literal["float32", "mixed_float16"] = "mixed_float16" if mixed else "float32"
    keras.config.set_dtype_policy(policy)
    return policy


def fit(
    model: Any,
    *,
    training: Examples,
    validation: Examples,
    train: Train,
    classes: int,
    checkpoints: Path,
    key: str,
    budget: "Budget | None" = None,
) -> Progress:
    """Fit a model, from the last finished epoch of a killed attempt if there is one.

    Parameters
    ----------
    model : keras.Model
        Fitted in place. With early stopping it ends with the best weights.
    training, validation : Examples
        What is learned from and what is watched.
    train : Train
        The section of the pipeline file.
    classes : int
        Number of classes.
    checkpoints : Path
        Folder that survives a killed attempt.
    key : str
        Identifies configuration, data and code; checkpoints of another key are ignored.
    budget : Budget, optional
        With ``train.privacy``: the noise of every step. Steps of a killed attempt that no
        checkpoint holds are taken again under noise of their own; nothing of them is left, so that
        as many steps count as the budget has.

    Returns
    -------
    Progress
        The epochs done, those before a kill included.

    Raises
    ------
    BadConfig
        The loss is not finite: the training has diverged.
    """
    with tf.device("CPU:0"):
        epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
    if budget is None:
        trainer = compiled(model, train)
        weights = None
        if train.class_weights == "balanced":
            weights = balanced_class_weights(training.labels, classes=classes)
        batches = training.shuffled(
            train.batch_size, seed=train.seed, epoch=epoch, class_weights=weights
        )
        state = [*trainer.variables, *trainer.optimizer.variables]
    else:
        trainer, released = compiled_private(model, train, training, classes=classes, budget=budget)
        batches = training.sampled(train.batch_size, epoch=epoch)
        # what was released of the classes' sizes is kept: a second draw would cost a second time
        state = [*trainer.lasting_variables, *trainer.optimizer.variables, *released]
    checkpoint = Checkpoint(checkpoints, key)
    progress = checkpoint.restore(state)
    if progress.history:
        log.info("resumed after epoch %d of %d", len(progress.history), train.epochs)
    watcher = _Watcher(
        train=train,
        progress=progress,
        epoch=epoch,
        steps=-(-len(training) // train.batch_size),
        images=len(training),
        save=lambda: checkpoint.save_if_due(state, progress),
    )
    if not progress.stopped and len(progress.history) < train.epochs:
        trainer.fit(
            batches,
            validation_data=validation.batches(EVALUATION_BATCH),
            epochs=train.epochs,
            initial_epoch=len(progress.history),
            callbacks=[watcher],
            shuffle=False,  # the batches are shuffled already
            verbose=0,
        )
    if train.early_stopping is not None:
        model.set_weights(progress.best_weights)
        log.info("the weights of epoch %d are kept", progress.best_epoch)
    return progress


def inference_accuracy(model: Any, examples: Examples) -> float:
    """Return the share of right answers in inference mode.

    Parameters
    ----------
    model : keras.Model
        Ends in a softmax.
    examples : Examples
        Images with their classes.
    """
    answer = tf.function(lambda images: tf.argmax(model(images, training=False), axis=-1))
    right = sum(
        int(np.sum(answer(images).numpy() == labels.numpy()))
        for images, labels in examples.batches(EVALUATION_BATCH)
    )
    return right / len(examples)


def images_per_second(progress: Progress, images: int) -> float:
    """Return the training speed of the median epoch; the first, which also traces, counts only if
    it is alone."""
    seconds = [record.train_seconds for record in progress.history]
    return images / max(float(np.median(seconds[1:] or seconds)), 1e-9)


class _Watcher(keras.callbacks.Callback):  # type: ignore[misc]
    """Speaks, keeps the history and the best weights, stops early, saves checkpoints."""

    def __init__(
        self,
        *,
        train: Train,
        progress: Progress,
        epoch: Any,
        steps: int,
        images: int,
        save: Callable[[], None],
    ) -> None:
        super().__init__()
        self._train, self._progress, self._epoch = train, progress, epoch
        self._steps, self._images, self._save = steps, images, save
        self._began = self._validated = self._spoke = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch.assign(epoch)
        self._began = self._spoke = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if time.monotonic() - self._spoke > _LINE_EVERY_SECONDS:
            self._spoke = time.monotonic()
            epoch = len(self._progress.history) + 1
            log.info("epoch %d/%d: step %d/%d", epoch, self._train.epochs, batch + 1, self._steps)

    def on_test_begin(self, logs: Any = None) -> None:
        self._validated = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.monotonic()
        figures = {name: float(logs[name]) for name in _FIGURES}
        if not np.isfinite([figures["loss"], figures["val_loss"]]).all():
            # before the checkpoint, which would bring it back at every retry
            raise BadConfig(
                f"train: loss {figures['loss']:g}, validation loss {figures['val_loss']:g} in "
                f"epoch {epoch + 1}: the training has diverged; lower train.learning_rate or set "
                "train.mixed_precision to off"
            )
        record = EpochRecord(
            epoch=epoch + 1,
            **figures,
            seconds=round(now - self._began, 3),
            train_seconds=round(self._validated - self._began, 3),
        )
        log.info(
            "epoch %d/%d: loss %.4f accuracy %.4f, validation loss %.4f accuracy %.4f (%.1f s, "
            "%.0f images/s)",
            record.epoch,
            self._train.epochs,
            *figures.values(),
            record.seconds,
            self._images / max(record.train_seconds, 1e-9),
        )
        self._judge(record)
        self._save()

    def _judge(self, record: EpochRecord) -> None:
        progress = self._progress
        best = min((r.val_loss for r in progress.history), default=np.inf)
        progress.history.append(record)
        if record.val_loss < best or not progress.best_epoch:
            progress.best_epoch = record.epoch
            if self._train.early_stopping is not None:
                progress.best_weights = self.model.layers[-1].get_weights()
        patience = self._train.early_stopping
        if patience is not None and record.epoch - progress.best_epoch >= patience:
            progress.stopped = self.model.stop_training = True
            log.info("no better validation loss for %d epochs", patience)


_FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy")
