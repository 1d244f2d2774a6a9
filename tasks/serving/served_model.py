"""A SavedModel behind the V1 and V2 inference protocols. Runs in the serving environment only."""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from kserve import Model
from kserve.errors import InvalidInput, ModelNotReady

from tasks.serving import answers
from tasks.serving.files import Pointer, tree_digest
from tasks.serving.image_files import SERVED_KINDS, is_animated_webp, refusal
from tasks.serving.image_size import MAX_SCANS, pixels_of, too_many_scans
from tasks.serving.lanes import Lane
from tasks.serving.limits import (
    LIGHT_PIXELS,
    MAX_INSTANCES,
    SMALL_BODY,
    WAIT_SECONDS,
    Budget,
    Busy,
    Limits,
)
from tasks.serving.requests import Asked, parse_v1

log = logging.getLogger("tasks.serving")

BATCH = 64
"""Images that go through the model at once."""

T = TypeVar("T")

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
        if asked.pixels is not None:
            return int(asked.pixels.size)
        total = 0
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
        if images.ndim == len(self.shape):
            images = images[None]
        if images.ndim != 4 or images.shape[1:] != self.shape:
            raise InvalidInput(
                f"images have shape {list(images.shape)[:8]}, must be [N, "
                f"{', '.join(map(str, self.shape))}] with pixels 0..255; or send image bytes"
            )
        if not 0 < len(images) <= MAX_INSTANCES:
            raise InvalidInput(f"{len(images)} instances, must be 1 .. {MAX_INSTANCES}")
        if not np.isfinite(images).all():
            raise InvalidInput("images hold values that are not finite numbers")
        parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        found = [self._tensors(images=tf.constant(part))["probabilities"].numpy() for part in parts]
        return np.concatenate(found)

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


@dataclass(frozen=True, kw_only=True)
class Work:
    """A request that has not been looked at.

    Attributes
    ----------
    size : int
        Bytes of its body.
    parse : callable
        Takes it apart.
    answer : callable
        Makes the protocol's answer of name, model, request and probabilities.
    """

    size: int
    parse: Callable[[], Asked]
    answer: Callable[..., Any] = answers.v1


class Worker:
    """Works requests off: two lanes, and a budget of pixels.

    Parameters
    ----------
    limits : Limits
        Bounds.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pixels = Budget(limits.pixels_in_flight, small=LIGHT_PIXELS)
        # one large image at a time: a second would take the core that ordinary requests need
        self._light = Lane("light", max(1, (os.cpu_count() or 2) - 1))
        self._heavy = Lane("heavy", 1)

    async def classify(
        self, loaded: LoadedModel, work: Work, *, max_pixels: int
    ) -> tuple[Asked, Any]:
        """Return a request taken apart, and its probabilities.

        Parameters
        ----------
        loaded : LoadedModel
            The version that answers.
        work : Work
            The request.
        max_pixels : int
            Bound on an image, as far as the memory bears it.

        Raises
        ------
        InvalidInput
            It is wrong.
        Busy
            There was no room for it in time.
        """
        in_all = self._limits.pixels_in_flight - LIGHT_PIXELS

        def take_apart() -> tuple[Asked, int]:
            asked = work.parse()
            return asked, loaded.check(asked, min(max_pixels, in_all), in_all)

        lane = self._light if work.size <= SMALL_BODY else self._heavy
        asked, cost = await _done(lane, work.size, take_apart)
        async with self._pixels.taken(cost, seconds=WAIT_SECONDS):
            lane = self._light if cost <= LIGHT_PIXELS else self._heavy
            return asked, await _done(lane, cost, lambda: loaded.classify(asked))


async def _done(lane: Lane, cost: int, job: Callable[[], T]) -> T:
    future = asyncio.wrap_future(lane.submit(cost, job))
    try:
        # what has begun is let finish: only the wait in the queue is bounded, and by the budget
        result: T = await future
        return result
    except tf.errors.ResourceExhaustedError:
        raise Busy from None


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

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        # one version for the whole request, whatever is switched meanwhile
        loaded = self._current()
        if not isinstance(payload, Work):
            # a cloud event, which kserve has taken apart
            document = payload
            payload = Work(size=0, parse=lambda: parse_v1(document))
        asked, probabilities = await self._worker.classify(
            loaded, payload, max_pixels=self.max_pixels
        )
        return payload.answer(self.name, loaded, asked, probabilities)

    def _current(self) -> LoadedModel:
        if self._loaded is None:
            raise ModelNotReady(self.name)
        return self._loaded
