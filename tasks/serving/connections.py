"""Connections that wait for nobody: a head that does not come, or does not end, closes them."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tasks.serving.limits import HEADER_SECONDS

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers, which the parser itself does not bound."""


class Connection(HttpToolsProtocol):
    """A connection of uvicorn's that is closed when the head of a request is slow or long."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take in what came; of a head, no more than is allowed."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop()
        elif before is None or before.response_complete:
            self._head += len(data)
            self._wait()
            if self._head > MAX_HEAD:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop(self) -> None:
        self._head = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
