"""KServe's model server on a socket of ours, with models that come and go by pointer."""

import asyncio
import logging
import os
import signal
import socket
import threading
import warnings
from typing import Any

from kserve import ModelRepository, ModelServer
from kserve.errors import ModelNotFound
from kserve.model_server import app

from tasks.serving.connections import DRAINING, Connection
from tasks.serving.endpoints import add_endpoints, add_error_handlers
from tasks.serving.files import write_json
from tasks.serving.follower import Follower, Options
from tasks.serving.guard import Guard
from tasks.serving.lanes import Lanes
from tasks.serving.worker import Worker

log = logging.getLogger("tasks.serving")


class PointedRepository(ModelRepository):  # type: ignore[misc]
    """Models of the follower; V2's load endpoint makes it look at the pointers at once."""

    def __init__(self) -> None:
        super().__init__(models_dir="")
        self.follower: Follower | None = None
        self._next_look: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()

    async def load(self, name: str) -> bool:
        """Bring a model to what its pointer says; anybody may ask, as often as he likes."""
        # whoever asks during a look, which may have read an older pointer, shares the next one
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look())
        await asyncio.shield(self._next_look)
        if self.get_model(name) is None:
            raise ModelNotFound(name)
        return True

    async def _look(self) -> None:
        async with self._looking:
            self._next_look = None
            if self.follower is not None:
                await asyncio.to_thread(self.follower.follow_once)

    def unload(self, name: str) -> None:
        """Refuse: what serves is decided by the pointers."""
        if self.get_model(name) is None:
            raise KeyError(name)
        raise NotImplementedError(f"{name}: remove its pointer to take it out of service")


class _Server(ModelServer):  # type: ignore[misc]
    """KServe's server binds to every address of the machine; this one takes a bound socket."""

    def __init__(
        self, options: Options, listener: socket.socket, lanes: Lanes, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self._options, self._listener, self._lanes = options, listener, lanes

    async def _serve(self) -> None:
        # the coroutine that would bind to 0.0.0.0
        for unused in self.servers:
            unused.close()
        add_endpoints(app, self.dataplane)
        self._rest_server.create_application()
        add_error_handlers(app)
        # last, so that it is the first to see a request
        app.add_middleware(Guard, limits=self._options.limits, lanes=self._lanes)
        # beside the protocols: which version serves, and why not another
        app.add_api_route("/served", self.registered_models.follower.describe, methods=["GET"])
        self._rest_server.config.http = Connection
        self._rest_server.config.ws = "none"
        _announce(self._options, self._listener)
        server = self._rest_server._server
        server.handle_exit = _Drain(server, self._options.drain_seconds)
        await server.serve(sockets=[self._listener])

    def stop(self, sig: int) -> None:
        """Leave the models in place: uvicorn finishes the requests under way."""
        self._rest_server._server.handle_exit(sig, None)


class _Drain:
    """Ends a server a while after it was told to: whoever routes requests learns of it later."""

    def __init__(self, server: Any, seconds: float) -> None:
        self._server, self._end, self._seconds = server, server.handle_exit, seconds
        self._loop = asyncio.get_running_loop()

    def __call__(self, number: int, frame: Any) -> None:
        """Handle a signal; a second one ends the server at once."""
        state, seconds = self._server.server_state, self._seconds
        if number != signal.SIGTERM or not seconds or getattr(state, DRAINING, False):
            self._end(number, frame)
            return
        setattr(state, DRAINING, True)
        log.info("told to end: answers on for %g s", seconds)
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, self._end, number, frame)


def serve(options: Options, listener: socket.socket) -> list[str]:
    """Load what is to serve, then answer until ended by a signal; or return why it cannot."""
    repository = PointedRepository()
    lanes = Lanes()
    repository.follower = Follower(options, repository, Worker(options.limits, lanes))
    repository.follower.follow_once()
    if options.must_load and repository.follower.problems():
        return repository.follower.problems()
    # a line per request would bury the switches
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    for name in ("kserve", "kserve.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # kserve's own choice, and told on the first request
    warnings.filterwarnings("ignore", message="ORJSONResponse")
    # clients that speak no HTTP are many, and none of our business
    logging.getLogger("uvicorn.error").addFilter(_not_the_senders_fault)
    threading.Thread(target=repository.follower.follow, daemon=True).start()
    _Server(
        options,
        listener,
        lanes,
        registered_models=repository,
        enable_grpc=False,
        enable_latency_logging=False,
        workers=1,
        grace_period=10,
    ).start([])
    return []


_CLIENTS_FAULTS = ("Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket")
"""How uvicorn's warnings about clients begin."""


def _not_the_senders_fault(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_CLIENTS_FAULTS)


def _announce(options: Options, listener: socket.socket) -> None:
    """Tell where the server listens: a line, and the port file."""
    host, port = listener.getsockname()[:2]
    url = f"http://{host}:{port}"
    if options.port_file is not None:
        write_json(options.port_file, {"url": url, "pid": os.getpid()})
    log.info("model server: %s", url)
