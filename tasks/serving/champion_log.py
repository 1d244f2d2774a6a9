"""The append-only record of champions on one machine: ``<serving root>/<model>/champions.jsonl``.

One line for every version that became champion, by a deployment or by a person's hand, and why.
"""

import errno
import json
import logging
import os
from io import FileIO
from pathlib import Path
from typing import Any

from tasks.contract import Champion, StageError, now

log = logging.getLogger("tasks")

CHAMPIONS = "champions.jsonl"


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
    path = model_folder / CHAMPIONS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}): restore it, or move it out of the way"
        ) from error
    for line in reversed(lines):
        try:
            found = json.loads(line)
            version, digest = str(found["version"]), str(found["digest"])
        except (ValueError, KeyError, TypeError):
            # cut off by a kill
            continue
        return Champion(version, digest) if version else None
    return None
