"""The last step of a blessed night on a cluster: the model into service."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from tasks.contract import StageError, is_bad_input
from tasks.spec import Pipeline
from trusted_retraining.operators.stage import StageMixin
from trusted_retraining.scrubbing import scrub
from trusted_retraining.settings import Settings

if TYPE_CHECKING:
    from trusted_retraining.serving.attempt import Attempt
    from trusted_retraining.serving.rollout import Phase


UNDER_WAY: "list[Attempt]" = []
"""Deployments of this process, for whoever ends it."""


class DeployOperator(StageMixin, BaseOperator):
    """Put the published model into service on the cluster; move the alias ``champion`` last.

    The version is applied as a canary, must give the known answers and hold the bounds on errors
    and latency while it is watched, and only then gets every request. On any failure what served
    before serves again. Killed at any instant, a second attempt goes on from what it finds.

    Parameters
    ----------
    pipeline : Pipeline
        The pipeline as in its file.
    settings : Settings
        The installation's settings.
    poll_seconds : float, optional
        Time between two looks at the cluster; the settings' when left out.
    **kwargs
        Passed to Airflow's ``BaseOperator``.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        settings: Settings,
        poll_seconds: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stage = "deploy"
        self.pipeline = pipeline
        self.settings = settings
        self.poll_seconds = poll_seconds or float(settings.cluster.poll_seconds)
        self._under_way: Attempt | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Deploy, and return the manifest."""
        started = time.time()
        with self._attempt(context, started, begun=False) as attempt:
            self.run_directory(context).retract(self.stage)
            phase = attempt.begin()
            if phase is None:
                plan = attempt.plan
                self.log.info("%s version %s serves already", plan.model, plan.version)
                return self._commit(attempt, started, {}, already=True)
            return self._go_on(attempt, phase, started, {})

    def resume(
        self,
        context: Any,
        event: dict[str, Any],
        *,
        phase: "Phase",
        begun: bool,
        started: float,
        watched: dict[str, float],
        publication: str = "",
    ) -> dict[str, Any]:
        """Go on after the triggerer has waited."""
        with self._attempt(context, started, begun=begun, handed_on=publication) as attempt:
            if not event["ready"]:
                raise attempt.not_ready(event["reason"])
            return self._ready(attempt, phase, started, watched)

    def on_kill(self) -> None:
        """Take back a canary that nobody will prove any more."""
        if self._under_way is not None:
            self._under_way.roll_back()

    def _go_on(
        self, attempt: "Attempt", phase: "Phase", started: float, watched: dict[str, float]
    ) -> dict[str, Any]:
        """Wait for a phase to be ready, here or in the triggerer, and do what it is for."""
        plan = attempt.plan
        deadline = time.time() + plan.pipeline.deploy.startup_seconds
        if self.settings.cluster.deferrable:
            from trusted_retraining.triggers.deploy import ReadyTrigger

            slim = attempt.publication.model_copy(update={"known_answers": []})
            publication = slim.model_dump_json()
            self.defer(
                trigger=ReadyTrigger(
                    pipeline=plan.pipeline.to_json(),
                    publication=publication,
                    run_uri=plan.run_uri,
                    phase=phase,
                    begun=attempt.begun,
                    deadline=deadline,
                    poll_seconds=self.poll_seconds,
                ),
                method_name="resume",
                kwargs={
                    "phase": phase,
                    "begun": attempt.begun,
                    "started": started,
                    "watched": watched,
                    "publication": publication,
                },
            )
        attempt.wait(phase, deadline=deadline, poll_seconds=self.poll_seconds)
        return self._ready(attempt, phase, started, watched)

    def _ready(
        self, attempt: "Attempt", phase: "Phase", started: float, watched: dict[str, float]
    ) -> dict[str, Any]:
        if phase == "serving":
            difference = attempt.confirm()
            attempt.tidy()
            return self._commit(attempt, started, watched, difference=difference)
        seen = attempt.prove()
        watched = {
            "requests": float(seen.requests),
            "error_rate": seen.error_rate,
            "latency_ms": seen.latency_ms,
        }
        return self._go_on(attempt, "serving", started, watched)

    def _commit(
        self,
        attempt: "Attempt",
        started: float,
        watched: dict[str, float],
        *,
        already: bool = False,
        difference: float = 0.0,
    ) -> dict[str, Any]:
        manifest = attempt.commit(
            already=already,
            difference=difference,
            watched=watched,
            seconds=time.time() - started,
        )
        return manifest.model_dump(mode="json")

    @contextmanager
    def _attempt(
        self, context: Any, started: float, *, begun: bool, handed_on: str = ""
    ) -> Iterator["Attempt"]:
        """Yield the attempt; whatever goes wrong inside takes it back and is recorded."""
        # the Kubernetes client takes seconds to import, and every DAG file imports this module
        from trusted_retraining.hooks.kserve import kserve_hook
        from trusted_retraining.serving.attempt import Attempt
        from trusted_retraining.serving.plan import Plan
        from trusted_retraining.serving.publication import read_blessed

        run, pipeline = self.run_directory(context), self.tonight(context)
        told, left_behind = "", False
        try:
            judged = self.check_vouched(context)
            verdict, publication = read_blessed(
                run,
                pipeline=pipeline,
                settings=self.settings,
                not_deployed=self.not_deployed(context),
                judged=judged,
            )
            plan = Plan.of(publication, run_uri=run.uri, pipeline=pipeline, settings=self.settings)
            with kserve_hook(self.settings, self.settings.runtime_of(pipeline)) as hook:
                attempt = Attempt(
                    run=run, verdict=verdict, publication=publication, plan=plan, hook=hook
                )
                attempt.begun = begun
                self._under_way = attempt
                UNDER_WAY.append(attempt)
                try:
                    yield attempt
                except TaskDeferred:
                    raise
                except BaseException:
                    # a timeout is no Exception, and leaves a canary behind like any other failure
                    told = attempt.roll_back()
                    left_behind = attempt.left_behind
                    raise
                finally:
                    self._under_way = None
                    UNDER_WAY.remove(attempt)
                    attempt.close()
        except TaskDeferred:
            raise
        except BaseException as error:
            if not told:
                # before there was an attempt: the night's folder, for one, cannot be read any more
                told, left_behind = self._without_attempt(run.uri, pipeline, handed_on, begun)
            code = error.exit_code if isinstance(error, StageError) else 1
            text = (
                str(error) if isinstance(error, StageError) else f"{type(error).__name__}: {error}"
            )
            reason = scrub(f"{' '.join(text.split())}; {told}")[:2000]
            self.record(run, exit_code=code, reason=reason, seconds=round(time.time() - started, 3))
            if not isinstance(error, Exception):
                raise
            # what is left behind is worth another attempt, whatever it failed over
            final = is_bad_input(code) and not left_behind
            kind = AirflowFailException if final else AirflowException
            raise kind(f"{self.stage}: {reason} (exit code {code})") from error

    def _without_attempt(
        self, run_uri: str, pipeline: Pipeline, publication: str, begun: bool
    ) -> tuple[str, bool]:
        """Take back what an earlier part of the task has begun; tell how that went, and whether
        something is left behind."""
        if not begun:
            return "nothing was changed", False
        from trusted_retraining.serving.rollouts import opened_rollout

        try:
            with opened_rollout(
                publication, run_uri=run_uri, pipeline=pipeline, settings=self.settings
            ) as rollout:
                return rollout.roll_back(), False
        except Exception as error:
            # the first reason must not be lost over the second
            self.log.exception("rolling back failed")
            return f"ROLLING BACK FAILED as well ({error}); what was begun is still there", True
