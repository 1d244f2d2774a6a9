"""A SavedModel behind the V1 and V2 inference protocols. Runs in the serving environment only."""

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from kserve import Model
from kserve.errors import InvalidInput, ModelNotReady

from tasks.serving.files import Pointer, tree_digest
from tasks.serving.image_files import SERVED_KINDS, is_animated_webp, refusal
from tasks.serving.image_size import MAX_SCANS, pixels_of, too_many_scans
from tasks.serving.limits import BATCH, LIGHT_PIXELS, MAX_INSTANCES
from tasks.serving.requests import Asked
from tasks.serving.worker import Work, Worker

log = logging.getLogger("tasks.serving")

# what a decoder says of an image that it does not read
_UNREADABLE = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)


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

    def check(self, asked: Asked, max_pixels: int, in_all: int) -> int:
        """Return the pixels that a request costs, read from its images' headers.

        Parameters
        ----------
        asked : Asked
            The request.
        max_pixels, in_all : int
            Bounds on an image, and on all of them together.

        Raises
        ------
        InvalidInput
            It is more than the server takes, or no image.
        """
        total = 0
        if asked.pixels is not None:
            self._check_shape(asked.pixels)
            total = int(asked.pixels.size)
        for position, image in enumerate(asked.images):
            cost = _pixels(image, position)
            if cost > max_pixels:
                raise InvalidInput(
                    f"instance {position}: has {cost} pixels, at most {max_pixels} are taken; "
                    "send a smaller copy"
                )
            total += cost
        if total > in_all:
            raise InvalidInput(
                f"the images have {total} pixels together, at most {in_all} are taken; send them "
                "in several requests"
            )
        return total

    def classify(self, asked: Asked) -> "np.ndarray[Any, Any]":
        """Return probabilities [N, classes]."""
        if asked.pixels is not None:
            return self.classify_tensors(asked.pixels)
        return self.classify_bytes(asked.images)

    def classify_bytes(self, images: list[bytes]) -> "np.ndarray[Any, Any]":
        """Return probabilities [N, classes] of encoded images."""
        parts = [self._part(images[start:end], start) for start, end in _batches(images)]
        return np.concatenate(parts)

    def _part(self, images: list[bytes], start: int) -> "np.ndarray[Any, Any]":
        try:
            found = self._bytes(image_bytes=tf.constant(images))["probabilities"]
            return np.asarray(found.numpy())
        except _UNREADABLE as error:
            raise InvalidInput(self._bad_image(images, start)) from error

    def classify_tensors(self, images: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Return probabilities [N, classes] of pixels 0..255 [N, height, width, channels]."""
        self._check_shape(images)
        images = images.reshape(-1, *self.shape)
        found = []
        for start in range(0, len(images), BATCH):
            # here and not before: a batch of wide numbers is less than all of them
            with np.errstate(over="ignore"):
                part = images[start : start + BATCH].astype(np.float32)
            if not np.isfinite(part).all():
                raise InvalidInput("images hold values that are not finite numbers")
            found.append(self._tensors(images=tf.constant(part))["probabilities"].numpy())
        return np.concatenate(found)

    def _check_shape(self, images: "np.ndarray[Any, Any]") -> None:
        own = images.shape[-3:]
        if images.ndim not in (3, 4) or own != self.shape:
            raise InvalidInput(
                f"images have shape {list(images.shape)[:8]}, must be [N, "
                f"{', '.join(map(str, self.shape))}] with pixels 0..255; or send image bytes"
            )
        count = len(images) if images.ndim == 4 else 1
        if not 0 < count <= MAX_INSTANCES:
            raise InvalidInput(f"{count} instances, must be 1 .. {MAX_INSTANCES}")

    def _bad_image(self, images: list[bytes], start: int) -> str:
        bad = []
        for position, image in enumerate(images):
            try:
                self._bytes(image_bytes=tf.constant([image]))
            except _UNREADABLE:
                bad.append(start + position)
        shown = ", ".join(str(position) for position in bad[:5])
        return f"instance {shown}: cannot be decoded as one of {', '.join(SERVED_KINDS)}"

    def _warm_up(self) -> None:
        """Run both signatures once, so that the first request does not pay for the tracing."""
        blank = np.zeros((1, *self.shape), np.float32)
        png = tf.io.encode_png(tf.zeros(self.shape, tf.uint8)).numpy()
        self._bytes(image_bytes=tf.constant([png]))
        self._tensors(images=tf.constant(blank))


def _pixels(image: bytes, position: int) -> int:
    if not image:
        raise InvalidInput(f"instance {position}: is empty, not an image")
    if is_animated_webp(image):
        raise InvalidInput(f"instance {position}: {refusal(image)}")
    if too_many_scans(image):
        raise InvalidInput(
            f"instance {position}: a JPEG of more than {MAX_SCANS} scans is not taken; save it as "
            "a baseline JPEG"
        )
    found = pixels_of(image)
    if found is None:
        raise InvalidInput(
            f"instance {position}: cannot be decoded as one of {', '.join(SERVED_KINDS)}"
        )
    return found


def _batches(images: list[bytes]) -> Iterator[tuple[int, int]]:
    """Yield where batches begin and end: a large image goes alone, so that one is in memory."""
    start = cost = 0
    for position, image in enumerate(images):
        own = pixels_of(image) or 0
        if position > start and (position - start == BATCH or cost + own > LIGHT_PIXELS):
            yield start, position
            start, cost = position, 0
        cost += own
    yield start, len(images)


class ServedModel(Model):  # type: ignore[misc]
    """A name under which the newest switched-to version answers."""

    def __init__(self, name: str, worker: Worker) -> None:
        super().__init__(name)
        self.max_pixels = 0
        """Bound on an image."""
        self._worker = worker
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

    async def predict(
        self, payload: Work, headers: Any = None, response_headers: Any = None
    ) -> Any:
        # one version for the whole request, whatever is switched meanwhile
        loaded = self._current()
        return await self._worker.answer(self.name, loaded, payload, max_pixels=self.max_pixels)

    def _current(self) -> LoadedModel:
        if self._loaded is None:
            raise ModelNotReady(self.name)
        return self._loaded
