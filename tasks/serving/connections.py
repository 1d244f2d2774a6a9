"""Connections that wait for nobody: a head that does not come, or does not end, closes them."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tasks.serving.limits import HEADER_SECONDS, MI

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers, or of what comes between two pieces of its body or behind
the last: the parser itself bounds none of it, and keeps it."""

MAX_UNREAD = 16 * MI
"""Bytes of a body that may follow its answer. They are thrown away: a connection that is closed
while a client still sends is reset, and the client does not see the answer."""


DRAINING = "draining"
"""Attribute of uvicorn's state, set once the server was told to end."""


class Connection(HttpToolsProtocol):
    """A connection of uvicorn's that is closed when the head of a request is slow or long."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0
    _in_body = False
    _unread = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take in what came; of what is no body, no more than is allowed."""
        before = self.cycle
        self._head += len(data)
        super().data_received(data)
        if self.cycle is not before:
            self._stop()
        elif before is None or before.response_complete:
            self._wait()
        if self._head > MAX_HEAD or self._unread > MAX_UNREAD:
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        """Take in a piece of a body."""
        self._head = 0
        if self.cycle.response_complete:
            self._unread += len(body)
        super().on_body(body)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header; those behind a body, which nobody reads, are dropped."""
        if not self._in_body:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_body, self._unread = False, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin its body."""
        super().on_headers_complete()
        self._in_body = True
        if getattr(self.server_state, DRAINING, False):
            # whoever asks again does so on a new connection, which goes to another server
            self.cycle.keep_alive = False

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
