"""Keeps scratch files that must survive a killed pod: a copy of them in the run's store."""

import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from tasks.contract import RunDirectory, StageError, storage_errors
from tasks.storage.download import get_file
from tasks.storage.upload import abandon, put

log = logging.getLogger("tasks")

EVERY_SECONDS = 30.0
"""Between looks at the files; a new pod takes longer to start. After an upload that took long, ten
times as long as it."""


class Mirror:
    """Copies files into the store as they change, and back when an attempt begins.

    A copy that fails is told and tried again: it must not end a training that goes well. Files are
    expected to be replaced at once (written beside, then renamed).

    Parameters
    ----------
    run : RunDirectory
        A remote run.
    stage : str
        Stage name; the copies are in its folder, below ``.scratch/``, which no manifest names.
    folder : Path
        The stage's folder on this machine.
    names : tuple of str
        Files below it to be copied; what else a stage keeps beside them, such as decoded images,
        may be far too large.
    """

    def __init__(self, run: RunDirectory, stage: str, folder: Path, names: tuple[str, ...]) -> None:
        self._run, self._folder, self._names = run, folder, names
        self._remote = f"{run.path}/{stage}/.scratch"
        self._seen: dict[str, tuple[int, int]] = {}
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Mirror":
        self._restore()
        if self._names:
            self._thread = threading.Thread(target=self._watch, name="mirror", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            if kind is not None:
                # asked to end, or failed: what was done since the last look is worth a copy
                self._copy()

    def forget(self) -> None:
        """Remove the copies: the stage has committed its result, which needs no failing tidying."""
        for name in self._names:
            path = f"{self._remote}/{name}"
            try:
                with storage_errors(self._run.uri):
                    abandon(self._run.fs, path)
                    with suppress(FileNotFoundError):
                        self._run.fs.rm_file(path)
            except StageError as error:
                log.warning("the copy of %s could not be removed: %s", name, error)

    def _restore(self) -> None:
        for name in self._names:
            target, draft = self._folder / name, self._folder / ".restored"
            with storage_errors(self._run.uri):
                try:
                    get_file(self._run.fs, f"{self._remote}/{name}", draft)
                except FileNotFoundError:
                    draft.unlink(missing_ok=True)
                    continue
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(target)
            self._seen[name] = _stamp(target)
            log.info("fetched %s of an earlier attempt", name)

    def _watch(self) -> None:
        wait = EVERY_SECONDS
        while not self._end.wait(wait):
            started = time.monotonic()
            self._copy()
            wait = max(EVERY_SECONDS, 10 * (time.monotonic() - started))

    def _copy(self) -> None:
        for name in self._names:
            self._copy_file(name)

    def _copy_file(self, name: str) -> None:
        try:
            # the opened file stays as it is, even if another takes its name meanwhile
            with (self._folder / name).open("rb") as stream:
                status = os.fstat(stream.fileno())
                stamp = (status.st_mtime_ns, status.st_size)
                if self._seen.get(name) == stamp:
                    return
                with storage_errors(self._run.uri):
                    put(
                        self._run.fs,
                        f"{self._remote}/{name}",
                        stream,
                        size=status.st_size,
                        sha256=f"{status.st_mtime_ns}",
                    )
            self._seen[name] = stamp
        except FileNotFoundError:
            return
        except (StageError, OSError) as error:
            log.warning("%s could not be copied: %s", name, error)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
