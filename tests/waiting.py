"""Waiting for what happens in another process."""

import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], seconds: float = 60, pause: float = 0.3) -> bool:
    """Return whether a condition has come true, asked again and again until it has.

    Parameters
    ----------
    condition : callable
        Is true when it returns anything that is.
    seconds : float
        How long it is asked.
    pause : float
        Seconds between the questions.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause)
    return False
