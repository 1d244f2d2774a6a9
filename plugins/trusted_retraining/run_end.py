"""Closes a night's MLflow run when its DAG run has ended without the stage ``report``.

That stage closes it as a rule. A DAG run that a person marked, that took too long, or whose last
tasks were lost with their worker never comes to it, and MLflow would show the night as running for
ever. Airflow's scheduler and API server call :mod:`trusted_retraining.listener`, which runs this
module in a process of its own: neither of them may wait for a store or for MLflow.

While MLflow is away the process tries again for an hour. What is still to be closed is noted beside
the pipeline's runs before the first try, so the end of its next DAG run closes it, whatever became
of the process.
"""

import os
import re
import subprocess
import sys
import threading
import time

from tasks.contract import RunDirectory, StageError
from tasks.spec.base import NAME
from trusted_retraining.settings import Settings
from trusted_retraining.storage import run_directory, storage_variables

WAITS = (30, 60, 120, 240, 480, 960, 1920)
"""Seconds between two tries to close a run."""

UNCLOSED = "unclosed_runs.json"
"""Beside the pipeline's runs: the ended DAG runs whose MLflow runs may be open, and how they ended.
"""


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
    if _unclosed(run):
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
    command = [sys.executable, "-m", "trusted_retraining.run_end", dag_id, run_id]
    command += ["success" if success else "failed"]
    process = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    # nobody else asks for its exit code
    threading.Thread(target=process.wait, daemon=True).start()


def close(dag_id: str, run_id: str, *, success: bool) -> None:
    """Close the MLflow run of a DAG run, and those of earlier ones that could not be closed.

    Parameters
    ----------
    dag_id, run_id, success
        As for :func:`close_later`.

    Raises
    ------
    StageError
        The store or MLflow cannot be reached; what is still open is noted.
    """
    settings = Settings.read()
    if not settings.mlflow_uri:
        return
    run = run_directory(settings, dag_id, run_id)
    unclosed = _unclosed(run)
    # a DAG that is none of ours has logged nothing, and gets no note
    if run.read_json("mlflow.json") is not None:
        # how a run ended last counts: it may have been cleared since it was noted
        unclosed[run_id] = success
        _note(run, unclosed)
    failed = None
    for each, ended_well in unclosed.items():
        try:
            _close(settings, run_directory(settings, dag_id, each), success=ended_well)
        except StageError as error:
            failed = error
        else:
            # read anew: another process may be at the same
            _note(run, {name: how for name, how in _unclosed(run).items() if name != each})
    if failed is not None:
        raise failed


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
        check=False,
    )
    if done.returncode != 0:
        raise StageError(f"tasks close ended with exit code {done.returncode}")


def _unclosed(run: RunDirectory) -> dict[str, bool]:
    noted = _of_pipeline(run).read_json(UNCLOSED)
    return noted if isinstance(noted, dict) else {}


def _note(run: RunDirectory, unclosed: dict[str, bool]) -> None:
    if unclosed != _unclosed(run):
        _of_pipeline(run).write_json(UNCLOSED, unclosed)


def _of_pipeline(run: RunDirectory) -> RunDirectory:
    return RunDirectory(run.uri.rpartition("/runs/")[0], run.storage_options)


def main(arguments: list[str]) -> int:
    """Close the run that the arguments name, with patience; return the exit code."""
    dag_id, run_id, state = arguments
    code = 0
    for wait in (*WAITS, None):
        try:
            close(dag_id, run_id, success=state == "success")
        except StageError as error:
            code = error.exit_code
            way = (
                "the end of the pipeline's next run closes it"
                if wait is None
                else (f"again in {wait} s")
            )
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
