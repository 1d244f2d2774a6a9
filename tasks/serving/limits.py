"""What the model server takes at a time, so that no request costs the others theirs."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.serving.files import write_json

MI = 1 << 20

MEMORY = "2Gi"
MAX_PIXELS = 25_000_000
"""Defaults of ``deploy.memory`` and ``deploy.max_pixels``."""

BASE_BYTES = 900 * MI
"""The server with TensorFlow, two versions of a small model and the requests that wait."""

BYTES_PER_PIXEL = 32
"""Memory that decoding and resizing a pixel takes: 26 measured at the worst, and a margin."""

LIGHT_PIXELS = 4_000_000
"""Pixels up to which a request is an ordinary one, which never waits for larger ones."""

BATCH = 64
"""Images that go through the model at once, and up to which a request is an ordinary one."""

MAX_INSTANCES = 1024
"""Images of a request."""

MAX_VALUES = 4_000_000
"""Numbers, lists and objects in the JSON of a request; each takes up to 70 bytes once parsed."""

MAX_LISTS = MAX_VALUES // 2
"""Lists among them: pixels of one channel are a list each."""

MAX_NAMES = 64 * MAX_INSTANCES
"""Names in the JSON of a request, which take longer to read than anything else."""

SMALL_BODY = MI
"""Bytes of a body up to which it is an ordinary one."""

WAIT_SECONDS = 5.0
"""Time that a request waits for its turn before it is told to come back."""

HEADER_SECONDS = 10.0
"""Time that a client has to send the head of a request."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on requests.

    Attributes
    ----------
    memory : int
        Bytes that the server may take.
    pixels : int
        Pixels of an image, as asked for; see ``max_pixels``.
    body_seconds : float
        Time that a client has to send the body of a request.
    """

    memory: int = 2048 * MI
    pixels: int = MAX_PIXELS
    body_seconds: float = 30.0

    @property
    def pixels_in_flight(self) -> int:
        """Pixels of all requests that are being answered."""
        return max(2 * LIGHT_PIXELS, (self.memory - BASE_BYTES) // BYTES_PER_PIXEL)

    @property
    def max_pixels(self) -> int:
        """Pixels of an image, and no more than the memory bears."""
        return max(1, min(self.pixels, self.pixels_in_flight - LIGHT_PIXELS))

    @property
    def body_bytes(self) -> int:
        """Bytes of a body, unpacked."""
        return self.memory // 16

    @property
    def image_bytes(self) -> int:
        """Bytes of an image that fits a body as base64, with some room around it."""
        return self.body_bytes * 3 // 4 - SMALL_BODY

    @property
    def bodies_in_flight(self) -> int:
        """Bytes of the bodies of all requests together."""
        return self.memory // 8


def limits_of(deploy: Any) -> Limits:
    """Return the bounds that the section ``deploy`` of a pipeline file sets."""
    return Limits(memory=memory_bytes(deploy.memory), pixels=deploy.max_pixels)


def memory_bytes(text: str) -> int:
    """Return the bytes of a quantity such as ``2Gi`` or ``512Mi``.

    Raises
    ------
    ValueError
        It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(Mi|Gi)", text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no amount of memory such as 2Gi")
    return int(float(match[1]) * MI * (1024 if match[2] == "Gi" else 1))


FILE = "limits.json"
"""Beside a model's pointer: bounds of its own, where they are not the server's."""


def write_limits(model_folder: Path, *, max_pixels: int) -> None:
    """Write the bounds of a model for a server of several; the default needs no file."""
    path = model_folder / FILE
    if max_pixels == MAX_PIXELS:
        path.unlink(missing_ok=True)
        return
    model_folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {"max_pixels": max_pixels})


def read_limits(model_folder: Path) -> int | None:
    """Return the pixels of an image of a model; None where it has no bound of its own."""
    try:
        found = json.loads((model_folder / FILE).read_text(encoding="utf-8"))["max_pixels"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if type(found) is int and found > 0 else None


class Busy(Exception):
    """There is no room for a request now."""


class Budget:
    """An amount that requests share. A part of it is kept for the small ones.

    Parameters
    ----------
    total : int
        All there is.
    small : int
        Amount up to which a request is small; as much is kept for small ones.
    """

    def __init__(self, total: int, *, small: int) -> None:
        self._total, self._small = total, small
        self._taken = 0
        # a body is unpacked by another thread
        self._counting = threading.Lock()
        self._freed = asyncio.Condition()

    def take(self, amount: int, *, before: int = 0) -> None:
        """Take an amount, of a request that has taken some before.

        Raises
        ------
        Busy
            There is not so much.
        """
        kept = self._small if before + amount > self._small else 0
        with self._counting:
            if self._taken + amount > self._total - kept:
                raise Busy
            self._taken += amount

    async def give_back(self, amount: int) -> None:
        """Give an amount back to whoever waits."""
        async with self._freed:
            with self._counting:
                self._taken -= amount
            self._freed.notify_all()

    @asynccontextmanager
    async def taken(self, amount: int, *, seconds: float) -> AsyncIterator[None]:
        """Hold an amount for a while, after a wait for it.

        Raises
        ------
        Busy
            There was not so much in time.
        """
        try:
            async with asyncio.timeout(seconds), self._freed:
                while True:
                    try:
                        self.take(amount)
                        break
                    except Busy:
                        await self._freed.wait()
        except TimeoutError:
            raise Busy from None
        try:
            yield
        finally:
            await self.give_back(amount)
