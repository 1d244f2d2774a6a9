"""Keeps the models in memory at what the pointers below the serving root say."""

import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.serving.files import Pointer, pointed_models
from tasks.serving.limits import Limits, read_limits

log = logging.getLogger("tasks.serving")

RETRY_SECONDS = 30.0
"""Wait before a version that could not be loaded is tried again, if nobody switches meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to serve.

    Attributes
    ----------
    root : Path
        Folder of the served models.
    only : str
        ``MODEL=VERSION_FOLDER=VERSION=DIGEST`` of the one model of a probe; empty follows pointers.
    host, port : str, int
        Where to listen; port 0 takes a free one.
    port_file : Path or None
        JSON file that tells the address once the server listens.
    poll_seconds : float
        Time between two looks at the pointers.
    ends_with_stdin : bool
        End when standard input is closed, that is when whoever started the server is gone.
    drain_seconds : float
        Time to answer on after a signal to end.
    limits : Limits
        Bounds on requests; a model's own file may say otherwise of its images.
    must_load : bool
        End when the model cannot be loaded, rather than wait for a better one: a container whose
        model is refused has to say so.
    """

    root: Path
    only: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    port_file: Path | None = None
    poll_seconds: float = 0.5
    ends_with_stdin: bool = False
    must_load: bool = False
    drain_seconds: float = 0.0
    limits: Limits = field(default_factory=Limits)


@dataclass
class _Problem:
    pointer: Pointer
    text: str
    at: float = field(default_factory=time.monotonic)


class Follower:
    """Keeps the repository of served models at what the pointers say."""

    def __init__(self, options: Options, repository: Any, worker: Any) -> None:
        self._options = options
        self._worker = worker
        self._repository = repository
        self._problems: dict[str, _Problem] = {}
        self._busy = threading.Lock()

    def wanted(self) -> dict[str, Pointer]:
        """Return which version of which model is to serve."""
        if not self._options.only:
            return pointed_models(self._options.root)
        name, folder, version, digest = self._options.only.split("=")
        return {name: Pointer(version=version, digest=digest, path=folder)}

    def follow_once(self) -> None:
        """Load what is new; a version that cannot be loaded leaves the old one in service."""
        with self._busy:
            wanted = self.wanted()
            for name, pointer in wanted.items():
                self._follow(name, pointer)
            for name in set(self._repository.get_models()) - set(wanted):
                log.info("%s: no pointer any more, taken out of service", name)
                self._repository.models.pop(name, None)

    def follow(self) -> None:
        """Look at the pointers for ever."""
        while True:
            time.sleep(self._options.poll_seconds)
            try:
                self.follow_once()
            except Exception:
                # the server must outlive whatever is wrong below its root
                log.exception("looking at the pointers failed")

    def problems(self) -> list[str]:
        """Return why models that are wanted do not serve."""
        return [f"{name}: {problem.text}" for name, problem in self._problems.items()]

    def describe(self) -> dict[str, Any]:
        """Return what serves, what is wanted, and why they differ."""
        models = self._repository.get_models()
        wanted = self.wanted()
        return {
            name: {
                "serving": _as_dict(models[name].pointer) if name in models else None,
                "wanted": _as_dict(wanted.get(name)),
                "problem": self._problems[name].text if name in self._problems else "",
            }
            for name in sorted({*models, *wanted})
        }

    def _follow(self, name: str, pointer: Pointer) -> None:
        from tasks.serving.served_model import LoadedModel, ServedModel

        model = self._repository.get_model(name)
        max_pixels = read_limits(self._options.root / name) or self._options.limits.pixels
        if model is not None and model.pointer == pointer:
            model.max_pixels = max_pixels
            self._problems.pop(name, None)
            return
        problem = self._problems.get(name)
        if problem and problem.pointer == pointer and time.monotonic() - problem.at < RETRY_SECONDS:
            return
        started = time.perf_counter()
        try:
            loaded = LoadedModel(self._options.root / name / pointer.path, pointer)
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            self._problems[name] = _Problem(pointer, text)
            log.error("%s version %s is refused: %s", name, pointer.version, text)
            return
        if model is None:
            model = ServedModel(name, self._worker)
        model.max_pixels = max_pixels
        model.switch_to(loaded)
        self._repository.update(model)
        self._problems.pop(name, None)
        seconds = time.perf_counter() - started
        log.info("%s: version %s serves (loaded in %.1f s)", name, pointer.version, seconds)


def _as_dict(pointer: Pointer | None) -> dict[str, str] | None:
    return None if pointer is None else {"version": pointer.version, "digest": pointer.digest}
