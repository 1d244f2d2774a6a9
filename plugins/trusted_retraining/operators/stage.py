"""What every operator of a stage shares, whatever runs it."""

import getpass
import json
import shlex
from collections.abc import Collection, Mapping
from typing import Any

from airflow.sdk import BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from tasks.contract import (
    ASK_WHO_SERVES,
    EX_CONFIG,
    EX_USAGE,
    Failure,
    RunDirectory,
    StageError,
    format_champion,
    is_bad_input,
    not_deployed,
    now,
    release,
)
from tasks.spec import Pipeline, SpecError, changes, override
from trusted_retraining.links import MlflowRunLink, TrustReportLink
from trusted_retraining.operators.vouched import judged_for
from trusted_retraining.params import FORCE, changed_fields
from trusted_retraining.pipelines import serves_on_cluster
from trusted_retraining.scrubbing import scrub
from trusted_retraining.settings import Settings
from trusted_retraining.storage import run_directory

_OF_THE_COMMAND_LINE = "dag_test"
"""User that Airflow gives a run of ``dag.test``."""

_SAME_RELEASE = (
    "install both from one release ([trusted_retraining] tasks_image or stage_python names the "
    "stage's)"
)

BEGUN = "begun"
"""Key under which Airflow keeps, for all attempts of a task, that one has begun."""


class StageMixin:
    """Knows the stage: its command, its environment, its result and its errors.

    A runtime's class puts it before Airflow's operator and runs what it says.

    Attributes
    ----------
    stage : str
        Name of the stage.
    pipeline : Pipeline
        The pipeline as in its file.
    settings : Settings
        The installation's settings.
    """

    stage: str
    pipeline: Pipeline
    settings: Settings
    log: Any
    _served_words: tuple[str, ...] = ()
    _judged: str = ""

    operator_extra_links: Collection[BaseOperatorLink] = (MlflowRunLink(), TrustReportLink())

    def run_directory(self, context: Mapping[str, Any]) -> RunDirectory:
        """Return the folder of this DAG run."""
        return run_directory(self.settings, self.pipeline.name, context["run_id"])

    def begin(self, context: Mapping[str, Any]) -> None:
        """Undo whatever stands committed for a stage before an attempt of its task has begun: it
        was put there by somebody else, and the stage would take it for its own.

        Raises
        ------
        StageError
            The stage puts a model into service, and no task vouches for its verdict.
        """
        self._judged = self.check_vouched(context)
        ti, store = context.get("ti"), context.get("task_state_store")
        if ti is None:
            return
        # a later attempt may find what the one before it has committed; but a worker may also have
        # died before it came to this line, and then there is nothing that could be the task's own
        if ti.try_number <= 1 or (store is not None and not store.get(BEGUN)):
            self.run_directory(context).retract(self.stage)
            if store is not None:
                # a night may be cleared a year later, and what it has committed is its own still
                store.set(BEGUN, True, retention=NEVER_EXPIRE)

    def check_vouched(self, context: Mapping[str, Any]) -> str:
        """Refuse to put a model into service on what was replaced after the gate; return the digest
        of the verdict that its task vouches for, empty for a stage that needs none."""
        if context.get("ti") is None:
            return ""
        return judged_for(self.stage, context, self.run_directory(context))

    def overrides(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that this DAG run changes."""
        return changed_fields(self.pipeline, context["params"])

    def tonight(self, context: Mapping[str, Any]) -> Pipeline:
        """Return the pipeline with this DAG run's overrides applied.

        Raises
        ------
        AirflowFailException
            An override names no field, its value is not allowed, or no run may change it.
        """
        try:
            allowed = self.settings.addresses_of(self.pipeline)
            return override(self.pipeline, self.overrides(context), allowed=allowed)
        except SpecError as error:
            # the record tells the last task of the night, and its summary, what was wrong
            self.record(
                self.run_directory(context), exit_code=EX_CONFIG, reason=str(error), seconds=0.0
            )
            raise AirflowFailException(str(error)) from error

    def not_deployed(self, context: Mapping[str, Any]) -> str:
        """Return why a model that passes in this DAG run is not deployed; empty when it is."""
        changed = [
            change for change in changes(self.pipeline, self.tonight(context)) if change.is_rule
        ]
        return not_deployed(changed) if changed and not self.settings.deploy_changed_rules else ""

    def stage_arguments(self, context: Mapping[str, Any]) -> list[str]:
        """Return the arguments after ``python -m tasks``.

        Raises
        ------
        AirflowFailException
            As :meth:`tonight`.
        StageError
            The stage must know what a cluster serves, and that cannot be read.
        """
        tonight = self.tonight(context)
        arguments = [self.stage, "--run-uri", self.run_directory(context).uri]
        arguments += ["--spec", tonight.to_json(), *self._served(tonight, context)]
        # the file as well: the stage itself compares what was made of it
        arguments += ["--file", self.pipeline.to_json()]
        arguments += ["--requested-by", requested_by(context)]
        arguments += ["--judged", self._judged] if self._judged else []
        # not --force: a retry must not compute again what this very run has computed
        return [*arguments, "--no-cache"] if context["params"].get(FORCE) else arguments

    def _served(self, tonight: Pipeline, context: Mapping[str, Any]) -> list[str]:
        """Return the argument that says what serves, for a stage that must know and cannot see."""
        if self.stage not in ASK_WHO_SERVES or not serves_on_cluster(tonight, self.settings):
            return []
        # the Kubernetes client takes seconds to import, and every DAG file imports this module
        from trusted_retraining.serving.serving_now import what_serves

        try:
            served = format_champion(what_serves(tonight, self.settings))
        except StageError as error:
            raise type(error)(scrub(f"what serves cannot be read: {error}")) from error
        self.log.info("what serves now: --served %s", served)
        self._served_words = ("--served", served)
        return [*self._served_words]

    def by_hand(self, context: Mapping[str, Any]) -> str:
        """Return a short command line with which a person runs this very stage again."""
        path = self.settings.pipelines / f"{self.pipeline.name}.yaml"
        words = ["python", "-m", "tasks", self.stage]
        words += ["--run-uri", self.run_directory(context).uri, "--spec", str(path)]
        for field, value in self.overrides(context).items():
            words += ["--set", f"{field}={value if isinstance(value, str) else json.dumps(value)}"]
        return shlex.join([*words, *self._served_words])

    def result(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Return the committed manifest, as it is handed on as XCom.

        Raises
        ------
        AirflowException
            The stage said that it was done but has committed nothing.
        AirflowFailException
            It is of another release than this plugin.
        """
        run = self.run_directory(context)
        manifest = run.read_manifest(self.stage)
        if manifest is None:
            raise AirflowException(f"{self.stage}: ended well, but left no manifest in {run.uri}")
        if manifest.release != release():
            # a later one refuses by itself, and earlier ones do not know that they are asked
            reason = (
                f"the stage is of {_named(manifest.release)}, but this plugin is of release "
                f"{release()}: {_SAME_RELEASE}"
            )
            self.record(run, exit_code=EX_CONFIG, reason=reason, seconds=manifest.seconds)
            raise AirflowFailException(f"{self.stage}: {reason}")
        return manifest.model_dump(mode="json")

    def record(self, run: RunDirectory, *, exit_code: int, reason: str, seconds: float) -> Failure:
        """Record why an attempt failed; a store that cannot take it must not hide the reason.

        Parameters
        ----------
        run : RunDirectory
            The night.
        exit_code : int
            The process's own, or one that stands for what happened to it.
        reason : str
            One line for a person.
        seconds : float
            How long the attempt took.
        """
        failure = Failure(
            stage=self.stage, exit_code=exit_code, reason=reason, seconds=seconds, at=now()
        )
        try:
            run.write_failure(failure)
        except Exception as unwritten:
            self.log.warning("the failure could not be recorded in storage: %s", unwritten)
        return failure

    def not_started(self, context: Mapping[str, Any], error: StageError) -> AirflowException:
        """Return the error for a stage that was not started, and record why."""
        run = self.run_directory(context)
        self.record(run, exit_code=error.exit_code, reason=str(error), seconds=0.0)
        kind = AirflowFailException if is_bad_input(error.exit_code) else AirflowException
        return kind(f"{self.stage}: {error} (exit code {error.exit_code})")

    def fail(
        self,
        context: Mapping[str, Any],
        *,
        exit_code: int,
        before: Failure | None,
        seconds: float,
        reason: str | None = None,
    ) -> AirflowException:
        """Return the error for a stage that ended with an exit code other than 0.

        Parameters
        ----------
        context : Mapping
            Airflow's task context.
        exit_code : int
            64 to 78 fails the task at once; anything else may be retried.
        before : Failure or None
            The failure record as it was before this attempt: one that is still there means that the
            process died without a word, and the record is written here.
        seconds : float
            How long the attempt took.
        reason : str, optional
            What is known about the end of a process that died without a word.
        """
        run = self.run_directory(context)
        failure = run.read_failure(self.stage)
        if failure is None or failure == before:
            failure = self.record(
                run,
                exit_code=exit_code,
                reason=_with_release(reason or _died(exit_code), exit_code),
                seconds=round(seconds, 3),
            )
            # otherwise the stage has said it in the log itself
            self.log.error("%s: %s (exit code %d)", self.stage, failure.reason, exit_code)
        kind = AirflowFailException if is_bad_input(exit_code) else AirflowException
        return kind(f"{self.stage}: {failure.reason} (exit code {exit_code})")


def requested_by(context: Mapping[str, Any]) -> str:
    """Return the user who triggered a DAG run; empty when the schedule or new data did."""
    name = getattr(context.get("dag_run"), "triggering_user_name", None) or ""
    # a run of the command line has no user of Airflow's
    return getpass.getuser() if name == _OF_THE_COMMAND_LINE else str(name)


def _died(exit_code: int) -> str:
    if exit_code > 128:
        return f"ended by signal {exit_code - 128} before it could say why"
    return "ended without saying why; see the task log"


def _named(other: str) -> str:
    return f"release {other}" if other else "an earlier release, which does not say its name"


def _with_release(reason: str, exit_code: int) -> str:
    """Add what is likely when a stage cannot read its arguments, which this plugin has read."""
    if exit_code not in (EX_CONFIG, EX_USAGE) or release() in reason:
        return reason
    return (
        f"{reason}; this plugin, of release {release()}, has read the same settings, so the stage "
        f"may be of another: {_SAME_RELEASE}"
    )
