"""The search for cycles of objects: among millions of new lists it finds none, at a great cost."""

import gc
import threading


class _NoSearch:
    """Keeps Python from it within a ``with`` block.

    The switch is the process's: of several that are within one at once, the last turns it on again.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            gc.disable()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                gc.enable()


NO_SEARCH = _NoSearch()
