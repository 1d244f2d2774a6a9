"""Takes the bodies of requests in, within bounds, before anything looks at them."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from tasks.serving.lanes import Lanes
from tasks.serving.limits import MI, SMALL_BODY, Budget, Busy, Limits
from tasks.serving.unpacking import ENCODINGS, NotPacked, Unpacking

log = logging.getLogger("tasks.serving")

BODY = "trusted_retraining.body"
"""Key of the scope under which an endpoint finds the whole, unpacked body, in a list of one."""

LINGER_SECONDS = 2.0
"""Time for which what a refused client still sends is read and thrown away."""

RETRY_AFTER = (b"retry-after", b"1")

Scope = dict[str, Any]
Message = dict[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any]

_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")


class _Gone(Exception):
    """The client went away."""


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Guard:
    """ASGI middleware that hands whole bodies on, and refuses what is too large or too slow.

    Parameters
    ----------
    app : callable
        The application.
    limits : Limits
        Bounds.
    lanes : Lanes
        Where bodies are unpacked.
    """

    def __init__(self, app: App, limits: Limits, lanes: Lanes) -> None:
        self._app, self._limits, self._lanes = app, limits, lanes
        self._budget = Budget(limits.bodies_in_flight, small=64 * SMALL_BODY)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        held, incoming = _Held(self._budget, self._limits), _Incoming(receive)
        try:
            headers = {name.lower(): value for name, value in scope["headers"]}
            try:
                async with asyncio.timeout(self._limits.body_seconds):
                    body = await _body(headers, incoming, held)
            except TimeoutError:
                seconds = self._limits.body_seconds
                raise _Refused(408, f"body did not come within {seconds:g} s") from None
            if _encoding(headers) in ENCODINGS:
                body = await self._unpacked(body, _encoding(headers), held)
            # whoever takes it out may let it go: it is there once
            box = [body]
            del body
            scope = {**scope, "headers": _plain(scope["headers"], len(box[0])), BODY: box}
            await self._app(scope, _nothing_more(receive), send)
        except _Gone:
            # nobody is there to be told
            log.debug("a client went away before its request was whole")
        except _Refused as error:
            await incoming.let_pass(self._limits.body_bytes)
            await refuse(send, error.status, str(error))
        except Busy:
            await incoming.let_pass(self._limits.body_bytes)
            await refuse(send, 503, "too many requests at a time; try again")
        finally:
            await held.release()

    async def _unpacked(self, body: bytearray, encoding: str, held: "_Held") -> bytearray:
        """Unpack a body; a small one that becomes large goes on where the large ones are done."""
        unpacking = Unpacking(body, encoding, held.take)
        try:
            light = len(body) <= SMALL_BODY
            for until in [SMALL_BODY, None] if light else [None]:
                done = await self._lanes.run(
                    partial(unpacking.advance, until),
                    cost=max(len(body), until or self._limits.body_bytes),
                    light=until is not None,
                )
                if done:
                    break
        except NotPacked as error:
            raise _Refused(400, str(error)) from None
        return unpacking.whole


def _encoding(headers: dict[bytes, bytes]) -> str:
    return headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()


class _Incoming:
    """The messages of a request's body."""

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self.more = True

    async def part(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.more = False
            raise _Gone
        self.more = message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part

    async def let_pass(self, at_most: int) -> None:
        """Read on for a moment: a client that is still sending would not see the answer."""
        with suppress(TimeoutError, _Gone):
            async with asyncio.timeout(LINGER_SECONDS):
                while self.more and at_most > 0:
                    at_most -= len(await self.part())


async def _body(headers: dict[bytes, bytes], incoming: _Incoming, held: "_Held") -> bytearray:
    if _encoding(headers) not in ("", "identity", *ENCODINGS):
        raise _Refused(400, "Content-Encoding must be gzip, deflate or none")
    announced = headers.get(b"content-length", b"")
    if announced.isdigit():
        held.check(int(announced))
    # grown in place: parts that are joined are there twice
    body = bytearray()
    while incoming.more:
        part = await incoming.part()
        held.take(len(part))
        body += part
    return body


class _Held:
    """What one request holds of the budget."""

    def __init__(self, budget: Budget, limits: Limits) -> None:
        self._budget, self._limit = budget, limits.body_bytes
        self._taken = 0

    def check(self, size: int) -> None:
        if size > self._limit:
            raise _Refused(413, f"body has more than {self._limit // MI} MiB; send fewer images")

    def take(self, size: int) -> None:
        self.check(self._taken + size)
        self._budget.take(size, before=self._taken)
        self._taken += size

    async def release(self) -> None:
        await self._budget.give_back(self._taken)


def _plain(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    gone = (b"content-encoding", b"content-length", b"transfer-encoding")
    kept = [(name, value) for name, value in headers if name.lower() not in gone]
    return [*kept, (b"content-length", str(length).encode())]


def _nothing_more(receive: Any) -> Callable[[], Awaitable[Message]]:
    """Return a ``receive`` without a body: who read it here would parse it on the event loop."""
    ended = False

    async def receive_nothing() -> Message:
        nonlocal ended
        if not ended:
            ended = True
            return {"type": "http.request", "body": b"", "more_body": False}
        message: Message = await receive()
        return message

    return receive_nothing


async def refuse(send: Any, status: int, text: str) -> None:
    """Answer with an error, and close the connection: what it still sends is not read."""
    body = json.dumps({"error": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"connection", b"close"), *([RETRY_AFTER] if status == 503 else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
