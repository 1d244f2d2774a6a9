"""Adversarial attacks of ART on a compiled classifier."""

import importlib
import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.contract import BadConfig

# it announces where it keeps data
logging.getLogger("art").setLevel(logging.WARNING)
with warnings.catch_warnings():
    # ART announces the absence of PyTorch
    warnings.simplefilter("ignore")
    from art.attacks.evasion import FastGradientMethod
    from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_tensorflow_v2 import (  # noqa: E501
        ProjectedGradientDescentTensorFlowV2,
    )
    from art.estimators.classification import TensorFlowV2Classifier

Pixels = NDArray[np.float32]
Attack = Literal["fgsm", "pgd"]

CHUNK = 64
"""Images per compiled call: large enough to keep the device busy, small enough for its memory."""

SUREST_MARGIN = 12.0
"""Lead of the true class, in logits, beyond which the logits are scaled down: further on the
gradient of the cross-entropy rounds to zero in single precision, and an attack that stands still
makes the model look robust."""


class CompiledClassifier(TensorFlowV2Classifier):  # type: ignore[misc]
    """ART's TensorFlow classifier with compiled gradients and predictions of one fixed shape.

    ART runs the model operation by operation: the gradient of a batch costs thousands of Python
    calls, and its tape also computes the gradients of the weights, which no attack needs. Here both
    are traced once, for chunks of :data:`CHUNK` images that are padded, whatever the number asked
    for. The attacks remain ART's.

    Parameters
    ----------
    logits : keras.Model
        Reads pixels 0..255, returns logits; see :func:`logits_model`.
    classes : int
        Number of outputs.
    chunk : int
        Images per call.
    """

    def __init__(self, logits: Any, *, classes: int, chunk: int = CHUNK) -> None:
        super().__init__(
            model=logits,
            nb_classes=classes,
            input_shape=tuple(logits.input_shape[1:]),
            loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
            clip_values=(0.0, 255.0),
        )
        self._chunk = chunk
        shape = [chunk, *logits.input_shape[1:]]
        self._compiled_gradient = tf.function(
            self._gradient,
            input_signature=[
                tf.TensorSpec(shape, tf.float32),
                tf.TensorSpec([chunk, classes], tf.float32),
            ],
        )
        self._compiled_logits = tf.function(
            lambda images: tf.cast(logits(images, training=False), tf.float32),
            input_signature=[tf.TensorSpec(shape, tf.float32)],
        )

    def predict(
        self, x: Pixels, batch_size: int = CHUNK, training_mode: bool = False, **_: Any
    ) -> Pixels:
        """Return the logits, computed in chunks; ART's own takes all images at once."""
        images = tf.convert_to_tensor(x, tf.float32)
        answers: Pixels = self._in_chunks(self._compiled_logits, images).numpy()
        return answers

    def loss_gradient(self, x: Any, y: Any, training_mode: bool = False, **_: Any) -> Any:
        """Return the gradient of the cross-entropy with respect to the pixels."""
        gradient = self._in_chunks(
            self._compiled_gradient,
            tf.convert_to_tensor(x, tf.float32),
            tf.convert_to_tensor(y, tf.float32),
        )
        return gradient.numpy() if isinstance(x, np.ndarray) else gradient

    def _gradient(self, images: Any, targets: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = tf.cast(self._model(images, training=False), tf.float32)
            loss = self._loss_object(targets, logits * _softened(logits, targets))
        return tape.gradient(loss, images)

    def _in_chunks(self, function: Any, *tensors: Any) -> Any:
        if len(tensors[0]) == self._chunk:
            return function(*tensors)
        parts = []
        for start in range(0, len(tensors[0]), self._chunk):
            pieces = [tensor[start : start + self._chunk] for tensor in tensors]
            rows = len(pieces[0])
            if rows < self._chunk:
                pad = self._chunk - rows
                pieces = [tf.pad(p, [[0, pad]] + [[0, 0]] * (p.ndim - 1)) for p in pieces]
            parts.append(function(*pieces)[:rows])
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)


class CompiledPGD(ProjectedGradientDescentTensorFlowV2):  # type: ignore[misc]
    """ART's attack in the L-infinity norm, whose step after the gradient is one compiled call.

    ART takes some twenty eager operations for it, each with an array of its own; on a small net
    they take nearly as long as the gradient. The values are the same to the bit.

    Parameters
    ----------
    estimator : CompiledClassifier
        What is attacked.
    **options
        As ART's attack takes them.

    Raises
    ------
    NotImplementedError
        A mask, a target, momentum, another norm or a strength for each image, which the compiled
        step does not know.
    """

    def __init__(self, estimator: CompiledClassifier, **options: Any) -> None:
        super().__init__(estimator, **options)
        if (
            self.targeted
            or self.decay is not None
            or self.norm not in (np.inf, "inf")
            or not np.isscalar(self.eps)
            or not np.isscalar(self.eps_step)
        ):
            raise NotImplementedError("CompiledPGD: untargeted, L-infinity, one strength for all")

    def _compute_tf(
        self,
        x: Any,
        x_init: Any,
        y: Any,
        mask: Any,
        eps: float,
        eps_step: float,
        momentum: Any,
        random_init: bool,
    ) -> Any:
        if mask is not None:
            raise NotImplementedError("CompiledPGD: attacks whole images, without a mask")
        if random_init:
            # from a random start, which ART draws: once an image
            return super()._compute_tf(x, x_init, y, mask, eps, eps_step, momentum, random_init)
        gradient = self.estimator.loss_gradient(x, y)
        low, high = self.estimator.clip_values
        return _linf_step(
            x,
            x_init,
            gradient,
            tf.constant(eps, tf.float32),
            tf.constant(eps_step, tf.float32),
            tf.constant(low, tf.float32),
            tf.constant(high, tf.float32),
        )


@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def _linf_step(
    images: Any, originals: Any, gradient: Any, largest: Any, length: Any, low: Any, high: Any
) -> Any:
    """Go a step along the sign of the gradient, back into the ball around the originals."""
    moved = images + length * tf.sign(tf.where(tf.math.is_nan(gradient), 0.0, gradient))
    change = tf.clip_by_value(moved, low, high) - originals
    return tf.sign(change) * tf.minimum(tf.abs(change), largest) + originals


def _softened(logits: Any, targets: Any) -> Any:
    """Return the factor that brings each image's lead over the next class down to SUREST_MARGIN."""
    true = tf.reduce_sum(logits * targets, axis=1, keepdims=True)
    others = tf.where(targets > 0.5, tf.float32.min, logits)
    lead = true - tf.reduce_max(others, axis=1, keepdims=True)
    return tf.stop_gradient(SUREST_MARGIN / tf.maximum(lead, SUREST_MARGIN))


def load_classifier(path: Path, *, architecture: str = "") -> Any:
    """Load the Keras model that training left beside the served one.

    Parameters
    ----------
    path : Path
        ``model.keras``.
    architecture : str
        The pipeline file's name of it; of ``package.module:function`` the module is imported, since
        the model may be made of layers that are defined there.

    Returns
    -------
    keras.Model
        Uncompiled; pixels 0..255 to probabilities.

    Raises
    ------
    BadConfig
        The module or a class of the model is not found.
    """
    module, _, function = architecture.partition(":")
    try:
        known = vars(importlib.import_module(module)) if function else {}
        custom = {name: value for name, value in known.items() if callable(value)}
        return keras.models.load_model(path, compile=False, safe_mode=True, custom_objects=custom)
    except (ImportError, TypeError, ValueError) as error:
        reason = " ".join(str(error).rpartition("Exception encountered: ")[2].split())
        raise BadConfig(
            f"train.architecture: the model of {architecture!r} was trained but cannot be loaded "
            f"again ({reason[:200]}); layers of your own must be names of its module, or registered"
        ) from error


def logits_model(model: Any) -> Any:
    """Return the model without its softmax.

    The gradient of a cross-entropy that is computed from probabilities vanishes where the model is
    sure of itself, since the probabilities are clipped: the attack then stands still and the model
    looks robust. From logits it does not vanish.

    Parameters
    ----------
    model : keras.Model
        Ends in a softmax: a dense layer's activation, or a layer of its own.

    Returns
    -------
    keras.Model
        Same weights. Logarithms of the probabilities (which are logits, too) where no softmax is
        found at the end.
    """
    last = model.layers[-1]
    if isinstance(last, keras.Model) or last.output is not model.outputs[0]:
        return _log_probabilities(model)
    if isinstance(last, keras.layers.Dense) and last.activation is keras.activations.softmax:
        linear = keras.layers.Dense.from_config({**last.get_config(), "activation": "linear"})
        outputs = linear(last.input)
        linear.set_weights(last.get_weights())
        return keras.Model(model.inputs[0], outputs)
    is_softmax = isinstance(last, keras.layers.Softmax) or (
        isinstance(last, keras.layers.Activation) and last.activation is keras.activations.softmax
    )
    if is_softmax:
        return keras.Model(model.inputs[0], last.input)
    return _log_probabilities(model)


def _log_probabilities(model: Any) -> Any:
    smallest = float(np.finfo(np.float32).tiny)
    logarithm = keras.ops.log(keras.ops.maximum(model.outputs[0], smallest))
    return keras.Model(model.inputs[0], logarithm)


def attack_images(
    classifier: Any,
    images: Pixels,
    targets: Pixels,
    *,
    attack: Attack,
    strength: float,
    steps: int,
    seed: int,
) -> Pixels:
    """Change images so that the model errs, by at most ``strength`` of the pixel range per pixel.

    Parameters
    ----------
    classifier : art.estimators.classification.TensorFlowV2Classifier
        Reads pixels 0..255, returns logits.
    images : (n, height, width, channels) float32 array
        Pixels 0..255.
    targets : (n, classes) float32 array
        True classes, one-hot: the attack raises their loss.
    attack : {"fgsm", "pgd"}
        One step along the sign of the gradient [1]_, or many projected ones from a random start
        [2]_, each ``2.5 * strength / steps`` long: from any start the border can be reached.
    strength : float
        Largest change of a pixel (L-infinity), as a fraction of 0..255.
    steps : int
        Steps of PGD.
    seed : int
        Of PGD's random start.

    Returns
    -------
    (n, height, width, channels) float32 array
        Pixels 0..255, not rounded.

    References
    ----------
    .. [1] I. Goodfellow, J. Shlens, C. Szegedy, "Explaining and harnessing adversarial examples",
       ICLR 2015.
    .. [2] A. Madry et al., "Towards deep learning models resistant to adversarial attacks",
       ICLR 2018.
    """
    largest = 255.0 * strength
    if attack == "fgsm":
        method = FastGradientMethod(classifier, eps=largest, eps_step=largest, batch_size=CHUNK)
    else:
        method = CompiledPGD(
            classifier,
            eps=largest,
            eps_step=2.5 * largest / steps,
            max_iter=steps,
            num_random_init=1,
            batch_size=CHUNK,
            verbose=False,
        )
    # ART draws its random starts from numpy's global generator
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        changed: Pixels = method.generate(x=images, y=targets)
    finally:
        np.random.set_state(state)
    return changed
