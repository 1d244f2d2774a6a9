"""The models that a pipeline file can ask for. All read pixels 0..255 and end in a softmax."""

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tasks.contract import BadConfig, NoInput
from tasks.spec import Head, Train
from tasks.spec.training import OWN_ARCHITECTURES, application

_CNN_LEAST = 18
"""Least side, in pixels, of which three convolutions and two poolings leave anything."""


def build_classifier(
    train: Train, *, classes: int, steps_per_epoch: int, weights_file: Path | None
) -> Any:
    """Build the model that the pipeline file names.

    Parameters
    ----------
    train : Train
        The section of the pipeline file.
    classes : int
        Number of outputs.
    steps_per_epoch : int
        Steps between two validations; batch norm's moving averages are made to keep up with them.
    weights_file : Path or None
        Local file of the backbone's weights, where ``train.weights`` is a path or URI.

    Returns
    -------
    keras.Model
        Uncompiled. Input float32 (n, *image_size, channels), pixels 0..255; output float32
        (n, classes), probabilities.

    Raises
    ------
    BadConfig
        No such architecture, or its options do not fit together.
    NoInput
        The ImageNet weights cannot be fetched.
    """
    if ":" in train.architecture:
        return _user_model(train, classes)
    if train.architecture in OWN_ARCHITECTURES:
        _refuse_weights(train)
        if train.head.l2:
            raise BadConfig(
                f"train.head.l2: {train.architecture!r} has no head to penalise; leave it at 0, or "
                "take an architecture of keras.applications or one of your own"
            )
        return (_cnn if train.architecture == "cnn" else _dense)(train, classes)
    return _imagenet_model(train, classes, steps_per_epoch, weights_file)


def _cnn(train: Train, classes: int) -> Any:
    if min(train.image_size) < _CNN_LEAST:
        raise BadConfig(
            f"train.image_size: {list(train.image_size)} is too small for the cnn, which wants at "
            f"least {_CNN_LEAST} pixels a side"
        )
    layers = keras.layers
    return keras.Sequential(
        [
            _image_input(train),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            _softmax(classes),
        ],
        name="cnn",
    )


def _dense(train: Train, classes: int) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            _image_input(train),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            _softmax(classes),
        ],
        name="dense",
    )


def _imagenet_model(
    train: Train, classes: int, steps_per_epoch: int, weights_file: Path | None
) -> Any:
    function, preprocess = _application(train.architecture)
    pretrained = train.weights != "none"
    if pretrained and train.channels != 3:
        raise BadConfig(
            f"train.channels: {train.channels} does not go with train.weights {train.weights!r}: "
            "pretrained weights read 3 channels"
        )
    if train.frozen != "none" and not pretrained:
        raise BadConfig(
            f"train.frozen: {train.frozen!r} would keep random weights; give train.weights, or "
            "leave train.frozen at 'none'"
        )
    backbone = _backbone(train, function, weights_file)
    _freeze(backbone, train)
    if pretrained:
        _keep_batch_norm(backbone)
    else:
        _let_batch_norm_keep_up(backbone, steps_per_epoch)
    image = _image_input(train)
    scaled = _scaled(image, preprocess, train)
    features = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(scaled))
    head = train.head
    for units in head.dense:
        dense = keras.layers.Dense(units, activation="relu", kernel_regularizer=_penalty(head))
        features = keras.layers.Dropout(head.dropout)(dense(features))
    if not head.dense:
        features = keras.layers.Dropout(head.dropout)(features)
    return keras.Model(image, _softmax(classes, _penalty(head))(features), name="classifier")


def _penalty(head: Head) -> Any:
    return keras.regularizers.L2(head.l2) if head.l2 else None


def _backbone(train: Train, function: Callable[..., Any], weights_file: Path | None) -> Any:
    options: dict[str, Any] = {"include_top": False}
    if function is keras.applications.MobileNetV2:
        options["alpha"] = train.alpha
    shape = (*train.image_size, train.channels)
    try:
        backbone = function(
            input_shape=shape,
            weights="imagenet" if train.weights == "imagenet" else None,
            **options,
        )
    except ValueError as error:
        raise BadConfig(f"train.architecture {train.architecture!r}: {_one_line(error)}") from error
    except Exception as error:
        if train.weights != "imagenet":
            raise
        raise NoInput(
            f"train.weights: the ImageNet weights of {train.architecture!r} cannot be fetched "
            f"({_one_line(error)}); give a weights file: train.weights=PATH_OR_URI"
        ) from error
    if weights_file is not None:
        try:
            with warnings.catch_warnings():
                # a layer that is skipped would keep its random weights
                warnings.simplefilter("error", UserWarning)
                backbone.load_weights(weights_file)
        except Exception as error:
            raise BadConfig(
                f"train.weights: {train.weights} does not fit {train.architecture!r} without its "
                f"top, alpha {train.alpha}: {_one_line(error)}"
            ) from error
    return backbone


def _freeze(backbone: Any, train: Train) -> None:
    if train.frozen == "all":
        backbone.trainable = False
    elif train.frozen != "none":
        if train.frozen > len(backbone.layers):
            raise BadConfig(
                f"train.frozen: {train.frozen} is more than the {len(backbone.layers)} layers of "
                f"{train.architecture!r}"
            )
        for layer in backbone.layers[: train.frozen]:
            layer.trainable = False


def _keep_batch_norm(backbone: Any) -> None:
    """Leave batch norm as it was pretrained: better statistics than those of a few steps.

    A layer that is not trainable is in inference mode, whatever the model around it is called with;
    a ``training=False`` given to the backbone would be overruled by ``fit``.
    """
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def _let_batch_norm_keep_up(backbone: Any, steps_per_epoch: int) -> None:
    """Let the moving averages forget within an epoch.

    With the usual momentum of 0.99 or 0.999 a few dozen steps leave them at their initial values,
    and the model is useless in inference mode, however well it did in training.
    """
    fastest = 1 - 1 / max(steps_per_epoch, 2)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, fastest)


def _application(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the model function of ``keras.applications`` and its family's ``preprocess_input``."""
    function = getattr(keras.applications, application(name) or "", None)
    if function is None:
        raise BadConfig(f"train.architecture: {name!r} is not in keras {keras.__version__}")
    family = function.__module__.rsplit(".", 1)[-1]
    return function, importlib.import_module(f"keras.applications.{family}").preprocess_input


def _scaled(image: Any, preprocess: Callable[..., Any], train: Train) -> Any:
    """Scale pixels as the architecture expects, by layers that are saved with the model.

    Every ``preprocess_input`` is an affine map of a pixel's channels; it is found by asking for the
    images of 0 and of the unit vectors.
    """
    channels = train.channels
    try:
        offset = preprocess(np.zeros((1, 1, 1, channels), np.float32)).reshape(channels)
        # 255 rather than 1: the differences keep their digits
        units = (255.0 * np.eye(channels, dtype=np.float32)).reshape(channels, 1, 1, channels)
        matrix = (preprocess(units).reshape(channels, channels) - offset) / 255.0
    except IndexError as error:
        raise BadConfig(
            f"train.channels: {channels} does not go with {train.architecture!r}, which wants 3"
        ) from error
    if np.allclose(matrix, np.diag(np.diag(matrix))):
        scale = np.diag(matrix)
        if np.allclose(scale, 1) and np.allclose(offset, 0):
            return image
        return keras.layers.Rescaling(scale.tolist(), offset.tolist(), name="scale")(image)
    layer = keras.layers.Conv2D(channels, 1, trainable=False, name="scale")
    scaled = layer(image)
    layer.set_weights([matrix.reshape(1, 1, channels, channels), offset])
    return scaled


def _user_model(train: Train, classes: int) -> Any:
    _refuse_weights(train)
    module, _, name = train.architecture.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BadConfig(
            f"train.architecture: {train.architecture!r} cannot be imported ({_one_line(error)}); "
            "is it on PYTHONPATH?"
        ) from error
    shape = (*train.image_size, train.channels)
    model = function(shape, classes, train)
    if not isinstance(model, keras.Model):
        raise BadConfig(
            f"train.architecture: {train.architecture} returned a {type(model).__name__}, not a "
            "keras.Model"
        )
    found = (model.input_shape, model.output_shape)
    if found != ((None, *shape), (None, classes)):
        raise BadConfig(
            f"train.architecture: {train.architecture} must map {(None, *shape)} to "
            f"{(None, classes)}, but maps {found[0]} to {found[1]}"
        )
    answer = np.asarray(model(np.zeros((1, *shape), np.float32), training=False), np.float64)
    if not (answer.min() >= 0 and abs(answer.sum() - 1) < 1e-2):
        raise BadConfig(
            f"train.architecture: {train.architecture} must end in a softmax, but answers a black "
            f"image with {', '.join(f'{value:.3g}' for value in answer[0, :5])}"
        )
    return model


def _refuse_weights(train: Train) -> None:
    if train.weights != "none" or train.frozen != "none":
        raise BadConfig(
            f"train.weights: {train.architecture!r} has no pretrained backbone; leave "
            "train.weights and train.frozen at 'none'"
        )


def _image_input(train: Train) -> Any:
    # float32 even under mixed precision: float16 holds whole numbers only up to 2048
    return keras.Input((*train.image_size, train.channels), dtype="float32", name="image")


def _softmax(classes: int, penalty: Any = None) -> Any:
    return keras.layers.Dense(
        classes,
        activation="softmax",
        kernel_regularizer=penalty,
        dtype="float32",
        name="probabilities",
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
