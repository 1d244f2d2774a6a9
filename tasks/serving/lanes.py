"""Threads that work requests off: small ones never wait for large ones, smaller ones go first."""

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Lane:
    """A few threads and a queue in which small jobs overtake larger ones.

    Parameters
    ----------
    name : str
        Of the threads.
    threads : int
        How many jobs are under way at a time.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._jobs: list[tuple[int, int, Future[Any], Callable[[], Any]]] = []
        self._numbers = itertools.count()
        self._ready = threading.Condition()
        for number in range(threads):
            thread = threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            thread.start()

    def submit(self, cost: int, job: Callable[[], Any]) -> "Future[Any]":
        """Queue a job; those of about the same cost are done in the order in which they came."""
        future: Future[Any] = Future()
        with self._ready:
            entry = (cost.bit_length(), next(self._numbers), future, job)
            heapq.heappush(self._jobs, entry)
            self._ready.notify()
        return future

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._jobs:
                    self._ready.wait()
                _, _, future, job = heapq.heappop(self._jobs)
            # whoever asked may have given up meanwhile
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
            # a request's images must not live until the next one comes
            del future, job
