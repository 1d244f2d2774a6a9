"""The append-only record of champions on one machine: ``<serving root>/<model>/champions.jsonl``.

One line for every version that became champion, by a deployment or by a person's hand, and why.
"""

import errno
import json
import logging
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from tasks.contract import Champion, StageError, now

log = logging.getLogger("tasks")

CHAMPIONS = "champions.jsonl"
_BEGIN = '{"at": "'
"""Of every line, also of one that was cut off."""


def note_champion(
    model_folder: Path, champion: Champion | None, *, by: str, reason: str, **more: Any
) -> None:
    """Add a line; with no champion it says that from now on there is none.

    Parameters
    ----------
    model_folder : Path
        Folder of the served model.
    champion : Champion or None
        Who is champion now.
    by, reason : str
        User, and what made it champion.
    **more : Any
        Further fields of the line.

    Raises
    ------
    StageError
        It cannot be written; the record is as before.
    """
    version, digest = champion or ("", "")
    line = {"at": now(), "version": version, "digest": digest, "by": by, "reason": reason, **more}
    path = model_folder / CHAMPIONS
    try:
        model_folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as stream:
            _add(stream, json.dumps(line).encode() + b"\n")
    except OSError as error:
        raise StageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _add(stream: FileIO, line: bytes) -> None:
    size = stream.seek(0, os.SEEK_END)
    if size:
        stream.seek(size - 1)
        # a kill may have cut the last line off
        line = line if stream.read(1) == b"\n" else b"\n" + line
    try:
        if stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(stream.fileno())
    except OSError:
        stream.truncate(size)
        raise


def noted_champion(model_folder: Path) -> Champion | None:
    """Return whom the newest readable line names; None when it names nobody or there is none.

    Raises
    ------
    ValueError
        There is a record, but it cannot be read.
    """
    for line in _newest_first(model_folder):
        return Champion(line["version"], line["digest"]) if line["version"] else None
    return None


def noted_pipeline(model_folder: Path) -> str:
    """Return the pipeline that the model belongs to by the newest line that names one; empty where
    none does.

    Raises
    ------
    ValueError
        There is a record, but it cannot be read.
    """
    for line in _newest_first(model_folder):
        # an earlier release wrote the address of the run only: <root>/<pipeline>/runs/<run>
        parts = str(line.get("run_uri", "")).rstrip("/").split("/")
        by_run = parts[-3] if len(parts) > 3 and parts[-2] == "runs" else ""
        if named := str(line.get("pipeline") or by_run):
            return named
    return ""


def _newest_first(model_folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the readable lines; ``version`` and ``digest`` are texts in each."""
    path = model_folder / CHAMPIONS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    found = False
    for text in reversed(lines):
        try:
            line = json.loads(text)
            named = {"version": str(line["version"]), "digest": str(line["digest"])}
        except (ValueError, KeyError, TypeError):
            # cut off by a kill
            continue
        found = True
        yield line | named
    if not found and not all(text.startswith(_BEGIN[: len(text)]) for text in lines):
        raise _unreadable(path, "none of its lines is a champion's")


def _unreadable(path: Path, why: str) -> ValueError:
    return ValueError(f"{path}: cannot be read ({why}): restore it, or move it out of the way")
