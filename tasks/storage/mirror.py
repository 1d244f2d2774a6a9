"""Keeps scratch files that must survive a killed pod: a copy of them in the run's store."""

import logging
import os
import threading
import time
from pathlib import Path

from tasks.contract import RunDirectory, StageError, storage_errors
from tasks.storage.download import get_file
from tasks.storage.upload import put

log = logging.getLogger("tasks")

EVERY_SECONDS = 5.0
"""Between looks at the files. After an upload that took long, ten times as long as it."""


class Mirror:
    """Copies folders into the store as their files change, and back when an attempt begins.

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
        Folders below it to be copied.
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
        """Remove the copies: the stage has committed its result."""
        if not self._names:
            return
        with storage_errors(self._run.uri):
            for path in self._found():
                self._run.fs.rm_file(path)

    def _found(self) -> list[str]:
        return [str(path) for path in self._run.fs.find(self._remote)]

    def _restore(self) -> None:
        if not self._names:
            return
        with storage_errors(self._run.uri):
            for path in self._found():
                name = path[len(self._remote) + 1 :]
                if name.split("/")[0] not in self._names or ".." in name.split("/"):
                    continue
                target = self._folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                get_file(self._run.fs, path, target)
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
            for path in sorted((self._folder / name).rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    self._copy_file(path)

    def _copy_file(self, path: Path) -> None:
        name = path.relative_to(self._folder).as_posix()
        try:
            # the opened file stays as it is, even if another takes its name meanwhile
            with path.open("rb") as stream:
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
