"""A SavedModel behind the V1 and V2 inference protocols. Runs in the serving environment only."""

import asyncio
import base64
import binascii
import json
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput, ModelNotReady

from tasks.serving.files import Pointer, tree_digest
from tasks.serving.image_files import SERVED_KINDS, is_animated_webp, refusal

log = logging.getLogger("tasks.serving")

MAX_INSTANCES, BATCH = 1024, 64
"""Images a request may hold, and how many of them go through the model at once."""


class LoadedModel:
    """A SavedModel in memory, warmed up. Never changes; a switch replaces it as a whole."""

    def __init__(self, folder: Path, pointer: Pointer) -> None:
        found = tree_digest(folder)
        if found != pointer.digest:
            raise ValueError(
                f"{folder}: files were changed: digest is {found[:12]}, not {pointer.digest[:12]}"
            )
        description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.pointer = pointer
        self.classes: list[str] = description["classes"]
        self._model = tf.saved_model.load(str(folder))
        self._bytes = self._model.signatures["serving_default"]
        self._tensors = self._model.signatures["tensors"]
        shape = self._tensors.structured_input_signature[1]["images"].shape.as_list()
        self.shape: tuple[int, int, int] = tuple(shape[1:])
        self._warm_up()

    def classify_bytes(self, images: list[bytes]) -> "np.ndarray[Any, Any]":
        """Return probabilities [N, classes] of encoded images."""
        for position, image in enumerate(images):
            if not image:
                raise InvalidInput(f"instance {position}: is empty, not an image")
            if is_animated_webp(image):
                raise InvalidInput(f"instance {position}: {refusal(image)}")
        try:
            return self._in_batches(images, lambda part: self._bytes(image_bytes=tf.constant(part)))
        except tf.errors.InvalidArgumentError as error:
            raise InvalidInput(self._bad_image(images)) from error

    def classify_tensors(self, images: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Return probabilities [N, classes] of pixels 0..255 [N, height, width, channels]."""
        if images.ndim == len(self.shape):
            images = images[None]
        if images.ndim != 4 or images.shape[1:] != self.shape:
            raise InvalidInput(
                f"images have shape {list(images.shape)}, must be [N, "
                f"{', '.join(map(str, self.shape))}] with pixels 0..255; or send image bytes"
            )
        if not np.isfinite(images).all():
            raise InvalidInput("images hold values that are not finite numbers")
        return self._in_batches(images, lambda part: self._tensors(images=tf.constant(part)))

    def _in_batches(self, images: Any, call: Any) -> "np.ndarray[Any, Any]":
        if not 0 < len(images) <= MAX_INSTANCES:
            raise InvalidInput(f"{len(images)} instances, must be 1 .. {MAX_INSTANCES}")
        parts = [
            call(images[start : start + BATCH])["probabilities"].numpy()
            for start in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts)

    def _bad_image(self, images: list[bytes]) -> str:
        bad = []
        for position, image in enumerate(images):
            try:
                self._bytes(image_bytes=tf.constant([image]))
            except tf.errors.InvalidArgumentError:
                bad.append(position)
        shown = ", ".join(str(position) for position in bad[:5])
        return f"instance {shown}: cannot be decoded as one of {', '.join(SERVED_KINDS)}"

    def _warm_up(self) -> None:
        """Run both signatures once, so that the first request does not pay for the tracing."""
        blank = np.zeros((1, *self.shape), np.float32)
        png = tf.io.encode_png(tf.zeros(self.shape, tf.uint8)).numpy()
        self._bytes(image_bytes=tf.constant([png]))
        self._tensors(images=tf.constant(blank))


class ServedModel(Model):  # type: ignore[misc]
    """A name under which the newest switched-to version answers."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._loaded: LoadedModel | None = None
        self._swap = threading.Lock()

    @property
    def pointer(self) -> Pointer | None:
        """Which version answers."""
        return self._loaded.pointer if self._loaded else None

    def switch_to(self, loaded: LoadedModel) -> None:
        """Let a loaded version answer from the next request on; those under way finish as begun."""
        with self._swap:
            self._loaded = loaded
            self.ready = True

    def load(self) -> bool:
        return bool(self.ready)

    def start(self) -> None:
        # kserve would call a model without files ready
        return None

    def stop(self) -> None:
        return None

    async def get_input_types(self) -> list[dict[str, Any]]:
        shape = list(self._current().shape)
        return [
            {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]},
            {"name": "images", "datatype": "FP32", "shape": [-1, *shape]},
        ]

    async def get_output_types(self) -> list[dict[str, Any]]:
        classes = len(self._current().classes)
        return [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
            {"name": "class_name", "datatype": "BYTES", "shape": [-1]},
        ]

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        # one version for the whole request, whatever is switched meanwhile
        loaded = self._current()
        answer = _answer_v2 if isinstance(payload, InferRequest) else _answer_v1
        # in a thread: the event loop goes on taking requests and health checks
        return await asyncio.to_thread(answer, self.name, loaded, payload)

    def _current(self) -> LoadedModel:
        if self._loaded is None:
            raise ModelNotReady(self.name)
        return self._loaded


def _answer_v1(name: str, loaded: LoadedModel, payload: Any) -> dict[str, Any]:
    instances = payload.get("instances") if isinstance(payload, dict) else None
    if not isinstance(instances, list) or not instances:
        raise InvalidInput('body must be {"instances": [{"b64": "<base64 of an image>"}, ...]}')
    encoded = [isinstance(each, dict) for each in instances]
    if all(encoded):
        probabilities = loaded.classify_bytes(
            [_b64(each, position) for position, each in enumerate(instances)]
        )
    elif any(encoded):
        raise InvalidInput("instances mix base64 images and pixel lists: send one kind")
    else:
        probabilities = loaded.classify_tensors(_pixels(instances))
    return {
        "predictions": [
            {
                "class_name": loaded.classes[int(row.argmax())],
                "probabilities": [float(value) for value in row],
            }
            for row in probabilities
        ],
        "classes": loaded.classes,
        "model_name": name,
        "model_version": loaded.pointer.version,
        "model_digest": loaded.pointer.digest,
    }


def _answer_v2(name: str, loaded: LoadedModel, request: InferRequest) -> InferResponse:
    if len(request.inputs) != 1:
        raise InvalidInput(f"{len(request.inputs)} inputs, must be one: image_bytes or images")
    tensor = request.inputs[0]
    if tensor.datatype == "BYTES":
        probabilities = loaded.classify_bytes(_v2_bytes(tensor))
    elif tensor.datatype in ("FP32", "FP64", "UINT8", "INT32"):
        try:
            images = tensor.as_numpy().astype(np.float32)
        except (ValueError, TypeError) as error:
            raise InvalidInput(
                f"input {tensor.name}: data do not fit the shape: {error}"
            ) from error
        probabilities = loaded.classify_tensors(images)
    else:
        raise InvalidInput(
            f"input {tensor.name}: datatype {tensor.datatype} is not BYTES (encoded images) or "
            "FP32 (pixels 0..255)"
        )
    names = np.array([loaded.classes[index] for index in probabilities.argmax(axis=1)], object)
    outputs = [
        InferOutput("probabilities", list(probabilities.shape), "FP32"),
        InferOutput("class_name", [len(names)], "BYTES"),
    ]
    outputs[0].set_data_from_numpy(probabilities.astype(np.float32), binary_data=False)
    outputs[1].set_data_from_numpy(names, binary_data=False)
    return InferResponse(
        response_id=request.id or "",
        model_name=name,
        model_version=loaded.pointer.version,
        infer_outputs=outputs,
        parameters={"model_digest": loaded.pointer.digest},
    )


def _v2_bytes(tensor: InferInput) -> list[bytes]:
    """Return encoded images: raw ones of the binary extension, base64 strings in JSON."""
    if tensor._raw_data is not None:
        try:
            return [bytes(each) for each in tensor.as_numpy().ravel()]
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"input {tensor.name}: binary data do not fit: {error}") from error
    data = tensor.data
    if not isinstance(data, list):
        raise InvalidInput(f"input {tensor.name}: data must be a list of base64 strings")
    return [_b64({"b64": each}, position) for position, each in enumerate(data)]


def _b64(instance: dict[str, Any], position: int) -> bytes:
    text = instance.get("b64")
    if not isinstance(text, str):
        raise InvalidInput(f'instance {position}: must be {{"b64": "<base64 of an image>"}}')
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"instance {position}: is not base64: {error}") from error


def _pixels(instances: list[Any]) -> "np.ndarray[Any, Any]":
    try:
        return np.asarray(instances, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"instances are not equal lists of numbers: {error}") from error
