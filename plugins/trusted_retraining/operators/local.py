"""Stages as child processes of the Airflow worker, for one machine."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator

from tasks.contract import StageError
from tasks.spec import Pipeline
from trusted_retraining.operators.stage import StageMixin
from trusted_retraining.scrubbing import ScrubbedLog, scrub
from trusted_retraining.settings import Settings
from trusted_retraining.storage import storage_variables

REAPER = Path(__file__).with_name("reaper.py")


class LocalStageOperator(StageMixin, BaseOperator):
    """Run a stage as a child process, with its lines in the task log as they come.

    Parameters
    ----------
    stage : str
        Name of the stage.
    pipeline : Pipeline
        The pipeline as in its file.
    settings : Settings
        The installation's settings.
    command : sequence of str, optional
        What takes the stage's arguments; the settings' interpreter with ``-m tasks``.
    grace_seconds : float
        Time that the stage has to end itself before it is killed.
    **kwargs
        Passed to Airflow's ``BaseOperator``.
    """

    def __init__(
        self,
        *,
        stage: str,
        pipeline: Pipeline,
        settings: Settings,
        command: Sequence[str] | None = None,
        grace_seconds: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stage = stage
        self.pipeline = pipeline
        self.settings = settings
        self.command = tuple(command or (settings.stage_python, "-m", "tasks"))
        self.grace_seconds = grace_seconds
        self._process: subprocess.Popen[str] | None = None
        self._last_line = ""

    @property
    def log(self) -> Any:
        """Return the logger of the stage's lines, which may quote anything."""
        return ScrubbedLog(super().log)

    def execute(self, context: Any) -> dict[str, Any]:
        """Run the stage and return its manifest."""
        try:
            self.begin(context)
            arguments = self.stage_arguments(context)
        except StageError as error:
            raise self.not_started(context, error) from error
        before = self.run_directory(context).read_failure(self.stage)
        started = time.monotonic()
        try:
            exit_code = self._run([*self.command, *arguments])
        except BaseException as error:
            # a timeout, or Airflow ending the task: the record says so, for the night's summary
            self._stop()
            self._record(context, f"ended: {error or type(error).__name__}", started)
            raise
        if exit_code:
            seconds = time.monotonic() - started
            reason = self._last_words(exit_code)
            failure = self.fail(
                context, exit_code=exit_code, before=before, seconds=seconds, reason=reason
            )
            self.log.info("the same by hand: %s", self.by_hand(context))
            raise failure
        return self.result(context)

    def on_kill(self) -> None:
        """End the stage and everything it started."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def environment(self) -> dict[str, str]:
        """Return the variables of the stage: ours without Airflow's keys and connections."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        # what the machine says of AWS itself goes before the connection
        settings = storage_variables(self.settings) | own | self.settings.stage_environment()
        return settings | {"PYTHONUNBUFFERED": "1"}

    def _run(self, command: list[str]) -> int:
        # -S and -I: the reaper needs nothing that is installed, and starts in some 20 ms
        reaper = [sys.executable, "-I", "-S", str(REAPER), str(self.grace_seconds)]
        self._process = subprocess.Popen(  # noqa: S603
            [*reaper, *command],
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        # should the reaper itself be killed, its process group holds the stage, and the pipe open
        threading.Thread(target=_sweep, args=[self._process], daemon=True).start()
        for line in self._process.stdout or ():
            self.log.info("%s", line.rstrip())
            self._last_line = line.strip() or self._last_line
        exit_code = self._process.wait()
        return exit_code if exit_code >= 0 else 128 - exit_code

    def _last_words(self, exit_code: int) -> str | None:
        """Return what the process printed last, unless a signal cut it off in the middle."""
        if exit_code > 128 or not self._last_line:
            return None
        return f"ended without a reason of its own; last line: {scrub(self._last_line)[:500]}"

    def _stop(self) -> None:
        """Have the reaper end the stage, and wait until it has."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            # the reaper asks, waits, kills, and does the same for what is left
            process.wait(timeout=2 * self.grace_seconds + 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _record(self, context: Any, reason: str, started: float) -> None:
        self.record(
            self.run_directory(context),
            exit_code=128 + signal.SIGTERM,
            reason=reason,
            seconds=round(time.monotonic() - started, 3),
        )


def _sweep(process: "subprocess.Popen[str]") -> None:
    process.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
