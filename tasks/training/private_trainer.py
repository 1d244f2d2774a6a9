"""DP-SGD: gradients clipped image by image, and noise on their sum, in the compiled step."""

import logging
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tasks.contract import BadConfig
from tasks.training.input_pipeline import secret_numbers

# TensorFlow says at every convolution that its gradients are computed image by image
logging.getLogger("tensorflow").addFilter(lambda line: "uses a while_loop" not in str(line.msg))


class PrivateTrainer(keras.Sequential):  # type: ignore[misc]
    """Augmentation followed by a model, trained by DP-SGD [1]_.

    Each image goes through the model alone, so that nothing can pass between images; its gradient
    is scaled down to ``l2_norm_clip``; to the sum of a step Gaussian noise of standard deviation
    ``noise_multiplier * l2_norm_clip`` is added; and the sum is divided by ``batch_size``, the size
    that batches have on average, because their own size tells about the data. Keys of the noise
    come from the operating system's entropy, are made anew in each process and are kept nowhere: a
    seed that is written in a file would let its reader take the noise off again. So do those of
    dropout and augmentation, which are drawn by an image's place in its batch: were they known, one
    image more would change what is drawn for all behind it, and the sum by more than the clip.

    Parameters
    ----------
    layers : list of keras.Layer
        Augmentation layers, then the model.
    l2_norm_clip : float
        Largest norm of an image's gradient.
    noise_multiplier : float
        Standard deviation of the noise over ``l2_norm_clip``.
    batch_size : float
        Images a step on average.
    chunk : int
        Images whose gradients are held in memory at a time.
    class_weights : tf.Variable, optional
        float32, shape (classes,). Weighs an image's loss before its gradient is clipped.

    References
    ----------
    .. [1] Abadi et al., "Deep learning with differential privacy", CCS 2016, algorithm 1.
    """

    def __init__(
        self,
        layers: list[Any],
        *,
        l2_norm_clip: float,
        noise_multiplier: float,
        batch_size: float,
        chunk: int,
        class_weights: Any = None,
    ) -> None:
        super().__init__(layers)
        self._clip, self._noise = l2_norm_clip, noise_multiplier
        self._batch_size, self._chunk = batch_size, chunk
        self._class_weights = class_weights
        self._augmentation, self._model = self.layers[:-1], self.layers[-1]
        self._logged = {name: keras.metrics.Mean(name=name) for name in ("loss", "accuracy")}
        self._keys = secret_numbers(2 * len(self._model.trainable_variables)).reshape(-1, 2)
        self._seeds = [v.path for v in self._model.non_trainable_variables if _is_seed(v)]
        self._dice = tf.random.Generator.from_state(secret_numbers(3), alg="philox")
        for layer in self._augmentation:
            for variable in filter(_is_seed, layer.variables):
                variable.assign(secret_numbers(2))
        refuse_shared_state(self._model)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Take one step; figures that are logged are those of the images, without noise."""
        images, labels = data
        sums, loss, right = self.clipped_sums(images, labels)
        variables = self._model.trainable_variables
        gradients = [
            tf.reshape(total + noise, variable.shape) / self._batch_size
            for total, noise, variable in zip(sums, self._noises(sums), variables, strict=True)
        ]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._log(loss, right, tf.shape(images)[0])

    def test_step(self, data: Any) -> dict[str, Any]:
        """Log loss and accuracy in inference mode."""
        images, labels = data
        answers = self._model(images, training=False)
        losses = keras.losses.sparse_categorical_crossentropy(labels, answers)
        hits = tf.argmax(answers, axis=-1, output_type=labels.dtype) == labels
        right = tf.reduce_sum(tf.cast(hits, tf.float32))
        return self._log(tf.reduce_sum(losses), right, tf.shape(images)[0])

    @property
    def lasting_variables(self) -> list[Any]:
        """Variables that a checkpoint holds: all but the seeds, which are secret."""
        return [variable for variable in self.variables if not _is_seed(variable)]

    @property
    def metrics(self) -> list[Any]:
        """The metrics in the place of Keras' own, which want the answers of a whole batch."""
        return list(self._logged.values())

    def _log(self, loss: Any, right: Any, count: Any) -> dict[str, Any]:
        share = 1.0 / tf.cast(tf.maximum(count, 1), tf.float32)
        for name, total in (("loss", loss), ("accuracy", right)):
            self._logged[name].update_state(total * share, sample_weight=count)
        return {name: metric.result() for name, metric in self._logged.items()}

    def clipped_sums(self, images: Any, labels: Any) -> tuple[list[Any], Any, Any]:
        """Return the sum of the clipped gradients of a batch, which may be empty.

        Parameters
        ----------
        images : tf.Tensor
            float32, shape (n, height, width, channels), pixels 0..255.
        labels : tf.Tensor
            Integers, shape (n,).

        Returns
        -------
        sums : list of tf.Tensor
            One a trainable variable, flat. Each image's share of all of them together has norm
            ``l2_norm_clip`` at most.
        loss, right : tf.Tensor
            Scalars: sum of the losses, number of right answers.
        """
        count = tf.shape(images)[0]

        def add(start: Any, sums: Any, loss: Any, right: Any) -> tuple[Any, ...]:
            part = slice(start, start + self._chunk)
            gradients, losses, hits = self._per_image(images[part], labels[part])
            squares = tf.add_n([tf.reduce_sum(tf.square(one), axis=1) for one in gradients])
            # a gradient of 0 stays 0
            factors = tf.minimum(1.0, self._clip * tf.math.rsqrt(tf.maximum(squares, 1e-30)))
            clipped = [tf.linalg.matvec(one, factors, transpose_a=True) for one in gradients]
            return (
                start + self._chunk,
                [total + more for total, more in zip(sums, clipped, strict=True)],
                loss + tf.reduce_sum(losses),
                right + tf.reduce_sum(hits),
            )

        zeros = [tf.zeros([int(np.prod(v.shape))]) for v in self._model.trainable_variables]
        _, sums, loss, right = tf.while_loop(
            lambda start, *_: start < count, add, (0, zeros, tf.constant(0.0), tf.constant(0.0))
        )
        return sums, loss, right

    def _per_image(self, images: Any, labels: Any) -> tuple[list[Any], Any, Any]:
        """Return flat gradients, shape (n, size) each, losses and hits, shape (n,)."""
        for layer in self._augmentation:
            images = layer(images, training=True)
        weights = tf.ones_like(labels, tf.float32)
        if self._class_weights is not None:
            weights = tf.gather(self._class_weights, labels)
        # each image its own dropout, in each layer
        shape = (tf.shape(images)[0], max(len(self._seeds), 1), 2)
        seeds = self._dice.uniform(shape, maxval=2**31 - 1, dtype=tf.int32)
        gradients, losses, hits = tf.vectorized_map(self._one, (images, labels, weights, seeds))
        return gradients, losses, hits

    def _one(self, example: Any) -> tuple[list[Any], Any, Any]:
        image, label, weight, seeds = example
        model = self._model
        variables = [variable.value for variable in model.trainable_variables]
        state = [
            tf.cast(seeds[self._seeds.index(variable.path)], variable.dtype)
            if _is_seed(variable)
            else variable.value
            for variable in model.non_trainable_variables
        ]
        with tf.GradientTape() as tape:
            answer, _, extra = model.stateless_call(
                variables, state, image[None], training=True, return_losses=True
            )
            loss = weight * keras.losses.sparse_categorical_crossentropy(label[None], answer)[0]
            for penalty in extra:
                loss += penalty
        gradients = tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        hit = tf.cast(tf.argmax(answer[0], output_type=label.dtype) == label, tf.float32)
        return [tf.reshape(tf.convert_to_tensor(one), [-1]) for one in gradients], loss, hit

    def _noises(self, sums: list[Any]) -> list[Any]:
        step = tf.cast(self.optimizer.iterations, tf.int64)
        return [
            tf.random.stateless_normal(
                tf.shape(total),
                tf.stack([tf.constant(key[0]), tf.constant(key[1]) + step]),
                stddev=self._noise * self._clip,
            )
            for total, key in zip(sums, self._keys, strict=True)
        ]


def refuse_shared_state(model: Any) -> None:
    """Refuse a model that takes notes of the images outside its gradients, as batch norm does.

    Parameters
    ----------
    model : keras.Model
        Built.

    Raises
    ------
    BadConfig
        Variables that are not trained change when the model sees images in training mode. Their
        changes would be neither clipped nor noised.
    """
    variables = model.non_trainable_variables
    noise = np.random.default_rng(0).uniform(0, 255, (4, *model.input_shape[1:]))
    _, after = model.stateless_call(
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in variables],
        noise.astype(np.float32),
        training=True,
    )
    changed = [
        variable.path
        for variable, value in zip(variables, after, strict=True)
        if not _is_seed(variable) and not np.array_equal(variable.numpy(), np.asarray(value))
    ]
    if changed:
        raise BadConfig(
            f"train.privacy: {len(changed)} variables of the model keep statistics of the images "
            f"outside its gradients, such as {', '.join(changed[:3])}; freeze batch norm "
            "(pretrained weights do), or use an architecture without it: cnn, dense"
        )


def noised_class_weights(labels: Any, *, classes: int, noise: float) -> Any:
    """Return balanced class weights from noised counts, as a variable.

    Parameters
    ----------
    labels : ndarray
        Integers, shape (n,).
    classes : int
        Number of classes.
    noise : float
        Standard deviation of the noise on each count. One image more or less changes one count by
        1.

    Returns
    -------
    tf.Variable
        float32, shape (classes,): n / (classes * count), counts taken for 1 at least.
    """
    counts = tf.cast(tf.math.bincount(labels, minlength=classes), tf.float32)
    counts += tf.random.stateless_normal([classes], secret_numbers(2), stddev=noise)
    counts = tf.maximum(counts, 1.0)
    return tf.Variable(tf.reduce_sum(counts) / (classes * counts), trainable=False)


def _is_seed(variable: Any) -> bool:
    return bool(variable.path.endswith("seed_generator_state"))
