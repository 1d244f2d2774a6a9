"""The note by which other commands see that ``make up`` is running, and where."""

import json
import os
from typing import Any

from trusted_retraining.local import home


def write(document: dict[str, Any]) -> None:
    """Note this process as the running stack, with its addresses."""
    text = json.dumps({"pid": os.getpid(), **document}, indent=1)
    (home.state_folder() / "stack.json").write_text(text + "\n")


def read() -> dict[str, Any] | None:
    """Return the note of a stack that is alive; None when there is none."""
    try:
        note: dict[str, Any] = json.loads((home.state_folder() / "stack.json").read_text())
        os.kill(int(note["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    return note


def remove() -> None:
    """Take the note away."""
    (home.state_folder() / "stack.json").unlink(missing_ok=True)
