"""Who uses this machine's state folder: ``make up``, or one night from the command line.

The database, the registry and the last run are one for all, so it is one or the other. Who has it
is told by a lock that the system takes back however its owner ends; the note beside it only says
where.
"""

import fcntl
import json
import os
from io import TextIOWrapper
from typing import Any

from trusted_retraining.local import home

_held: TextIOWrapper | None = None
"""The locked file, as long as this process uses the state folder."""


def occupy(note: dict[str, Any]) -> dict[str, Any] | None:
    """Take the state folder for this process and note what it is used for.

    Parameters
    ----------
    note : dict
        ``{"airflow": address, ...}`` of a stack, ``{"night": pipeline}`` of a night.

    Returns
    -------
    dict or None
        The note of the process that has it already, with its ``pid``; None when it is ours.
    """
    global _held
    lock = _lock()
    if lock is None:
        return _read()
    _held = lock
    text = json.dumps({"pid": os.getpid(), **note}, indent=1)
    (home.state_folder() / "stack.json").write_text(text + "\n")
    return None


def read() -> dict[str, Any] | None:
    """Return the note of the process that uses the state folder; None when there is none."""
    lock = _lock()
    if lock is None:
        return _read()
    lock.close()
    return None


def release() -> None:
    """Give the state folder back."""
    global _held
    if _held is not None:
        (home.state_folder() / "stack.json").unlink(missing_ok=True)
        _held.close()
        _held = None


def in_words(note: dict[str, Any], wish: str) -> str:
    """Return one line that says who has the state folder and what to do about it.

    Parameters
    ----------
    note : dict
        As returned by :func:`occupy`.
    wish : str
        What is to be done there, such as ``trigger demo``.
    """
    process = f"process {note.get('pid', 'unknown')}"
    if "airflow" in note:
        address = note["airflow"]
        return f"Airflow is running (make up, {process}): {wish} there, {address}, or end it first"
    return (
        f"a night of {note.get('night', 'another pipeline')} is running ({process}): wait for its "
        "end, or end it first"
    )


def _lock() -> TextIOWrapper | None:
    """Return the locked file; None when another process has the lock."""
    state = home.state_folder()
    state.mkdir(parents=True, exist_ok=True)
    # never removed: a lock on a file that is gone would keep nobody out
    lock = (state / "stack.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def _read() -> dict[str, Any]:
    try:
        return dict(json.loads((home.state_folder() / "stack.json").read_text()))
    except (OSError, ValueError):
        # its owner has not written it yet
        return {}
