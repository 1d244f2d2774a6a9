"""Closes a night's MLflow run when its DAG run has ended without the stage ``report``.

That stage closes it as a rule. A DAG run that a person marked, that took too long, or whose last
tasks were lost with their worker never comes to it, and MLflow would show the night as running for
ever. Airflow's scheduler and API server call :mod:`trusted_retraining.listener`, which runs this
module in a process of its own: neither of them may wait for a store or for MLflow.

While MLflow is away the process tries again for an hour. What is still to be closed is noted beside
the pipeline's runs before the first try (:mod:`trusted_retraining.unclosed`), so the end of its
next DAG run closes it, whatever became of the process. The start of a run that was cleared removes
its note: what is under way again must not be closed.
"""

import logging
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress

from tasks.contract import RunDirectory, StageError
from tasks.spec.base import NAME
from trusted_retraining import unclosed
from trusted_retraining.settings import Settings
from trusted_retraining.storage import run_directory, storage_variables

log = logging.getLogger(__name__)

WAITS = (30, 60, 120, 240, 480, 960, 1920)
"""Seconds between two tries to close a run."""

RESTARTED = "restarted"
"""State of a run that has been cleared and started again; the others are Airflow's."""


def is_open(dag_id: str, run_id: str) -> bool:
    """Tell whether a DAG run's MLflow run, or one of an earlier DAG run, may be open still, without
    asking anything remote.

    Parameters
    ----------
    dag_id, run_id : str
        A DAG run, perhaps of a DAG that is none of ours.
    """
    settings = Settings.read()
    if not settings.mlflow_uri or not re.fullmatch(NAME, dag_id):
        return False
    if "://" in settings.storage_root:
        return True
    run = run_directory(settings, dag_id, run_id)
    if unclosed.all_noted(run):
        return True
    # the stage that closes it has been committed, or nothing has been logged
    return run.read_manifest("report") is None and run.read_json("mlflow.json") is not None


def close_later(dag_id: str, run_id: str, *, success: bool) -> None:
    """Close the MLflow run of a DAG run, in another process, unless there is nothing to close.

    Parameters
    ----------
    dag_id, run_id : str
        The DAG run that ended; that of a DAG which is not ours has no MLflow run.
    success : bool
        How it ended.
    """
    _spawn(dag_id, run_id, "success" if success else "failed")


def keep_open(dag_id: str, run_id: str) -> None:
    """Remove the note that a DAG run is to be closed, because it has been started again; in another
    process where that may take long.

    Parameters
    ----------
    dag_id, run_id : str
        The DAG run, perhaps of a DAG that is none of ours.
    """
    settings = Settings.read()
    if not settings.mlflow_uri or not re.fullmatch(NAME, dag_id):
        return
    if "://" in settings.storage_root:
        _spawn(dag_id, run_id, RESTARTED)
    else:
        unclosed.remove(run_directory(settings, dag_id, run_id))


def close(dag_id: str, run_id: str) -> None:
    """Close the MLflow runs of a pipeline's DAG runs that are noted as ended.

    Parameters
    ----------
    dag_id, run_id : str
        A DAG run of the pipeline.

    Raises
    ------
    StageError
        The store or MLflow cannot be reached; what is still open stays noted.
    """
    settings = Settings.read()
    failed = None
    for run in unclosed.all_noted(run_directory(settings, dag_id, run_id)):
        # read one by one: while others were being closed it may have been started again
        success = unclosed.noted(run)
        if success is None:
            continue
        try:
            _close(settings, run, success=success)
            unclosed.remove(run)
        except StageError as error:
            failed = error
    if failed is not None:
        raise failed


def _note(dag_id: str, run_id: str, *, success: bool) -> None:
    run = run_directory(Settings.read(), dag_id, run_id)
    # a DAG that is none of ours has logged nothing, and gets no note
    if run.read_json("mlflow.json") is not None:
        unclosed.note(run, success=success)


def _spawn(dag_id: str, run_id: str, state: str) -> None:
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "trusted_retraining.run_end", dag_id, run_id, state],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        # not ours: it may outlive this process, and whoever waits for the end of our output would
        # wait for it
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    # nobody else asks for its exit code
    threading.Thread(target=_relay, args=[process], daemon=True).start()


def _relay(process: "subprocess.Popen[str]") -> None:
    """Log what the process says while this one lives."""
    if process.stderr is not None:
        for line in process.stderr:
            log.warning("%s", line.rstrip())
    process.wait()


def _close(settings: Settings, run: RunDirectory, *, success: bool) -> None:
    note = run.read_json("mlflow.json")
    if not isinstance(note, dict):
        return
    if settings.mlflow_uri.startswith(("http://", "https://")):
        # imported late: a client of HTTP, which a machine with a database needs not
        from trusted_retraining.hooks.mlflow import MlflowHook

        hook = MlflowHook(settings.mlflow_uri)
        try:
            hook.end_run(str(note.get("run_id")), "FINISHED" if success else "FAILED")
        finally:
            hook.close()
        return
    done = subprocess.run(  # noqa: S603
        [settings.stage_python, "-m", "tasks", "close", "--run-uri", run.uri],
        env=storage_variables(settings) | os.environ | settings.stage_environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().rpartition("\n")[2]
        raise StageError(f"tasks close ended with exit code {done.returncode}: {said[:500]}")


def main(arguments: list[str]) -> int:
    """Do what the end, or the new start, of a DAG run asks for, with patience; return the exit
    code."""
    dag_id, run_id, state = arguments
    if not Settings.read().mlflow_uri:
        return 0
    code, noted = 0, False
    for wait in (*WAITS, None):
        try:
            if state == RESTARTED:
                unclosed.remove(run_directory(Settings.read(), dag_id, run_id))
                return 0
            # once: a note that is gone at a later try belongs to a run that was started again
            if not noted:
                _note(dag_id, run_id, success=state == "success")
                noted = True
            close(dag_id, run_id)
        except StageError as error:
            code = error.exit_code
            way = f"again in {wait} s" if wait else "the end of the pipeline's next run closes it"
            # who started this may have ended, and nobody reads any more
            with suppress(OSError):
                sys.stderr.write(
                    f"{dag_id} {run_id}: its MLflow run could not be closed: {error}; {way}\n"
                )
        else:
            return 0
        if wait is not None:
            time.sleep(wait)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
