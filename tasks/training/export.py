"""Writes the model as it will be served, and as it will be examined."""

import json
import platform
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf
from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef
from tensorflow.python.framework import ops

from tasks.training.images import decode_batch

_COUNTER_STEP = 1_000_000


def export_model(
    model: Any,
    folder: Path,
    *,
    name: str,
    classes: list[str],
    positive: str | None,
    exif_orientation: Literal["apply", "ignore"] = "apply",
) -> None:
    """Write a SavedModel that takes image files or pixels, with ``model.json`` beside it.

    Equal models have equal files, whichever process exports them.

    Signatures: ``serving_default`` maps ``image_bytes`` (string, (n,), encoded images) and
    ``tensors`` maps ``images`` (float32, (n, height, width, channels), pixels 0..255) to
    ``probabilities`` (float32, (n, classes)).

    Parameters
    ----------
    model : keras.Model
        Reads pixels 0..255, ends in a softmax.
    folder : Path
        Is made.
    name : str
        Name of the registered model.
    classes : list of str
        Names of the outputs, in order.
    positive : str or None
        The class that counts as the finding.
    exif_orientation : {"apply", "ignore"}
        Whether image files are turned as their EXIF orientation says; pixels never are.
    """
    height, width, channels = model.input_shape[1:]
    _round_up_counter()

    def from_pixels(images: Any) -> dict[str, Any]:
        return {"probabilities": model(images, training=False)}

    def from_files(image_bytes: Any) -> dict[str, Any]:
        pixels = decode_batch(
            image_bytes,
            image_size=(height, width),
            channels=channels,
            upright=exif_orientation == "apply",
        )
        return from_pixels(tf.cast(pixels, tf.float32))

    # not by keras.export.ExportArchive, which stores every variable twice
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    signatures = {
        "serving_default": tf.function(from_files).get_concrete_function(
            tf.TensorSpec([None], tf.string, name="image_bytes")
        ),
        "tensors": tf.function(from_pixels).get_concrete_function(
            tf.TensorSpec([None, height, width, channels], tf.float32, name="images")
        ),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)
    _drop_random_id(folder / "fingerprint.pb")
    description = {
        "name": name,
        "classes": classes,
        "positive": positive,
        "image_size": [height, width],
        "channels": channels,
        "exif_orientation": exif_orientation,
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1), encoding="utf-8")


def _drop_random_id(path: Path) -> None:
    """Keep of TensorFlow's fingerprint what is a function of the model: its hashes."""
    fingerprint = FingerprintDef.FromString(path.read_bytes())
    fingerprint.ClearField("uuid")
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _round_up_counter() -> None:
    """Let the functions that are traced next have the same names in every process.

    TensorFlow puts a counter of the process behind them. How far it is depends on what was done
    before, as on whether the training was resumed, and would make the graph of equal models differ.
    """
    while ops.uid() % _COUNTER_STEP:
        pass
