"""Threads that work requests off: small ones never wait for large ones, smaller ones go first."""

import asyncio
import heapq
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from tasks.serving.limits import Busy

T = TypeVar("T")


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


class Lanes:
    """The two lanes of the server, in which everything is done that a request's size decides on."""

    def __init__(self) -> None:
        # one large job at a time: a second would take the core that ordinary requests need, and
        # the memory
        self._light = Lane("light", max(1, (os.cpu_count() or 2) - 1))
        self._heavy = Lane("heavy", 1)

    async def run(self, job: Callable[[], T], *, cost: int, light: bool) -> T:
        """Return what a job returns.

        Parameters
        ----------
        job : callable
            Runs in a thread.
        cost : int
            Smaller ones go first.
        light : bool
            It is an ordinary one.

        Raises
        ------
        Busy
            There is not the memory for it.
        """
        lane = self._light if light else self._heavy
        future = asyncio.wrap_future(lane.submit(cost, job))
        try:
            # what has begun is let finish: only the wait in the queue is bounded, and by the budget
            result: T = await future
            return result
        except MemoryError:
            raise Busy from None
        finally:
            # an error holds this frame, and a request with it: without a cycle they end together
            del future, job
