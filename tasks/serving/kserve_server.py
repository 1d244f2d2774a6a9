"""KServe's model server on a socket of ours, with models that come and go by pointer."""

import asyncio
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from kserve import ModelRepository, ModelServer
from kserve.errors import InferenceError, InvalidInput, ModelNotFound
from kserve.model_server import app

from tasks.serving.files import write_json
from tasks.serving.follower import Follower, Options

log = logging.getLogger("tasks.serving")


class PointedRepository(ModelRepository):  # type: ignore[misc]
    """Models of the follower; V2's load endpoint makes it look at the pointers at once."""

    def __init__(self) -> None:
        super().__init__(models_dir="")
        self.follower: Follower | None = None

    async def load(self, name: str) -> bool:
        """Bring a model to what its pointer says."""
        if self.follower is not None:
            await asyncio.to_thread(self.follower.follow_once)
        if self.get_model(name) is None:
            raise ModelNotFound(name)
        return True

    def unload(self, name: str) -> None:
        """Refuse: what serves is decided by the pointers."""
        if self.get_model(name) is None:
            raise KeyError(name)
        raise NotImplementedError(f"{name}: remove its pointer to take it out of service")


class _Server(ModelServer):  # type: ignore[misc]
    """KServe's server binds to every address of the machine; this one takes a bound socket."""

    def __init__(self, options: Options, listener: socket.socket, **settings: Any) -> None:
        super().__init__(**settings)
        self._options, self._listener = options, listener
        self.dataplane.decode = _answerable(self.dataplane.decode)

    async def _serve(self) -> None:
        # the coroutine that would bind to 0.0.0.0
        for unused in self.servers:
            unused.close()
        self._rest_server.create_application()
        # beside the protocols: which version serves, and why not another
        app.add_api_route("/served", self.registered_models.follower.describe, methods=["GET"])
        _announce(self._options, self._listener)
        await self._rest_server._server.serve(sockets=[self._listener])

    def stop(self, sig: int) -> None:
        """Leave the models in place: uvicorn finishes the requests under way."""
        self._rest_server._server.handle_exit(sig, None)


def _answerable(decode: Callable[..., Any]) -> Callable[..., Any]:
    """Make what KServe cannot parse the sender's fault: it answers 500 to broken binary tensors."""

    def decode_or_refuse(*arguments: Any, **options: Any) -> Any:
        try:
            return decode(*arguments, **options)
        except (InferenceError, ValueError, KeyError, TypeError, struct.error) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(
                f"request cannot be parsed: {str(error)[:200]}; images go into JSON as base64"
            ) from error

    return decode_or_refuse


def _not_the_senders_fault(record: logging.LogRecord) -> bool:
    """Drop the stack traces that KServe logs for requests that were refused with a message."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, InvalidInput | ModelNotFound)


def serve(options: Options, listener: socket.socket) -> list[str]:
    """Load what is to serve, then answer until ended by a signal; or return why it cannot."""
    repository = PointedRepository()
    repository.follower = Follower(options, repository)
    repository.follower.follow_once()
    if options.must_load and repository.follower.problems():
        return repository.follower.problems()
    # a line per request would bury the switches
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    for name in ("kserve", "kserve.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).addFilter(_not_the_senders_fault)
    threading.Thread(target=repository.follower.follow, daemon=True).start()
    _Server(
        options,
        listener,
        registered_models=repository,
        enable_grpc=False,
        enable_latency_logging=False,
        workers=1,
        grace_period=10,
    ).start([])
    return []


def _announce(options: Options, listener: socket.socket) -> None:
    """Tell where the server listens: a line, and the port file."""
    host, port = listener.getsockname()[:2]
    url = f"http://{host}:{port}"
    if options.port_file is not None:
        write_json(options.port_file, {"url": url, "pid": os.getpid()})
    log.info("model server: %s", url)
