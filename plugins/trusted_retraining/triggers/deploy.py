"""Waits until a version is ready."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from tasks.spec import load_pipeline
from trusted_retraining.serving.plan import Readiness
from trusted_retraining.serving.rollout import Phase, Rollout
from trusted_retraining.serving.rollouts import opened_rollout
from trusted_retraining.settings import Settings

T = TypeVar("T")


class ReadyTrigger(BaseTrigger):
    """Looks at a version until it is ready, will not be, or the time is up.

    Parameters
    ----------
    pipeline : str
        The night's pipeline as JSON, overrides applied.
    publication : str
        Name, version, digest and place of the model as JSON, without its known answers.
    run_uri : str
        The night.
    phase : str
        ``canary`` or ``serving``.
    begun : bool
        Whether there is something to take back when a person ends the task.
    deadline : float
        Unix time until when to wait; a triggerer that takes over does not start anew.
    poll_seconds : float
        Time between two looks.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        publication: str,
        run_uri: str,
        phase: Phase,
        begun: bool,
        deadline: float,
        poll_seconds: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pipeline = pipeline
        self.publication = publication
        self.run_uri = run_uri
        self.phase = phase
        self.begun = begun
        self.deadline = deadline
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        names = ("pipeline", "publication", "run_uri", "phase", "begun", "deadline")
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in (*names, "poll_seconds")}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event: ``ready``, and ``reason`` if not."""
        last = Readiness(ready=False, reason="nobody has looked")
        while True:
            try:
                # not asyncio.to_thread: Airflow's connections are asked for through this loop
                last = await sync_to_async(self._look, thread_sensitive=False)()
            except Exception as error:
                # a trigger that ends by an error never resumes the task, which then could take
                # nothing back; the deadline decides
                last = Readiness(ready=False, reason=f"{type(error).__name__}: {error}"[:500])
            if last.ready or last.hopeless or time.time() >= self.deadline:
                break
            await asyncio.sleep(self.poll_seconds)
        event = {"ready": last.ready, "reason": last.reason}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Take back a canary that nobody will prove any more: a person has ended the task."""
        if self.begun:
            told = await sync_to_async(self._with_rollout, thread_sensitive=False)(
                lambda rollout: rollout.roll_back()
            )
            self.log.warning("rolled back: %s", told)

    def _look(self) -> Readiness:
        return self._with_rollout(lambda rollout: rollout.look_patiently(self.phase))

    def _with_rollout(self, call: Callable[[Rollout], T]) -> T:
        with opened_rollout(
            self.publication,
            run_uri=self.run_uri,
            pipeline=load_pipeline(self.pipeline),
            settings=Settings.read(),
        ) as rollout:
            return call(rollout)
