"""This process's folder for what is on its way to or from a remote store."""

import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import IO

_PREFIX = "trusted-retraining-"
_LOCK = ".lock"


class Workspace:
    """A temporary folder, made when it is first asked for and removed at the end.

    What killed processes left beside it is removed too: a process holds a lock in its folder.

    Parameters
    ----------
    scratch : Path, optional
        Where to make it: the scratch volume of a pod. The system's folder for temporary files when
        left out.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self._scratch = scratch or Path(tempfile.gettempdir())
        self._folder: Path | None = None
        self._lock: IO[str] | None = None

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """The folder."""
        if self._folder is None:
            self._scratch.mkdir(parents=True, exist_ok=True)
            _sweep(self._scratch)
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._scratch))
            # locked before it has its name: whoever finds it can only find it locked
            draft = self._folder / f"{_LOCK}.new"
            self._lock = draft.open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            draft.rename(self._folder / _LOCK)
        return self._folder

    def close(self) -> None:
        """Remove the folder; asked for again, it is made anew."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _sweep(scratch: Path) -> None:
    for lock in scratch.glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            with lock.open("r+") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:
            # in use, somebody else's, or gone already
            continue
