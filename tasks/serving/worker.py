"""Works requests off, each where its size belongs. Runs in the serving environment only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson  # type: ignore[import-not-found]
import tensorflow as tf

from tasks.serving import answers
from tasks.serving.lanes import Lanes
from tasks.serving.limits import (
    BATCH,
    LIGHT_PIXELS,
    SMALL_BODY,
    WAIT_SECONDS,
    Budget,
    Busy,
    Limits,
)
from tasks.serving.requests import Asked

if TYPE_CHECKING:
    from tasks.serving.served_model import LoadedModel


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
    """Works requests off, in two lanes and with a budget of pixels.

    Parameters
    ----------
    limits : Limits
        Bounds.
    lanes : Lanes
        Where.
    """

    def __init__(self, limits: Limits, lanes: Lanes) -> None:
        self._limits, self._lanes = limits, lanes
        self._pixels = Budget(limits.pixels_in_flight, small=LIGHT_PIXELS)

    async def answer(
        self, name: str, loaded: "LoadedModel", work: Work, *, max_pixels: int
    ) -> bytes:
        """Return the answer to a request, as JSON.

        Parameters
        ----------
        name : str
            Name of the model.
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

        asked, cost = await self._lanes.run(
            take_apart, cost=work.size, light=work.size <= SMALL_BODY
        )

        def classify() -> bytes:
            found = work.answer(name, loaded, asked, loaded.classify(asked))
            encoded: bytes = orjson.dumps(found)
            return encoded

        # a thousand images of one pixel each are little to decode, and much to classify
        light = cost <= LIGHT_PIXELS and asked.count <= BATCH
        async with self._pixels.taken(cost, seconds=WAIT_SECONDS):
            try:
                return await self._lanes.run(classify, cost=cost, light=light)
            except tf.errors.ResourceExhaustedError:
                raise Busy from None
