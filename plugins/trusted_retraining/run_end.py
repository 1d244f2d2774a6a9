"""Closes a night's MLflow run when its DAG run has ended without the stage ``report``.

That stage closes it as a rule. A DAG run that a person marked, that took too long, or whose last
tasks were lost with their worker never comes to it, and MLflow would show the night as running for
ever. Airflow's scheduler and API server call :mod:`trusted_retraining.listener`, which runs this
module in a process of its own: neither of them may wait for a store or for MLflow.
"""

import os
import re
import subprocess
import sys
import threading

from tasks.contract import StageError
from tasks.spec.base import NAME
from trusted_retraining.settings import Settings
from trusted_retraining.storage import run_directory, storage_variables


def is_open(dag_id: str, run_id: str) -> bool:
    """Tell whether a DAG run's MLflow run may be open still, without asking anything remote.

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
    """Close the MLflow run of a DAG run if it is still open.

    Parameters
    ----------
    dag_id, run_id, success
        As for :func:`close_later`.

    Raises
    ------
    StageError
        The store or MLflow cannot be reached.
    """
    settings = Settings.read()
    run = run_directory(settings, dag_id, run_id)
    note = run.read_json("mlflow.json")
    if not settings.mlflow_uri or not isinstance(note, dict):
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
    subprocess.run(  # noqa: S603
        [settings.stage_python, "-m", "tasks", "close", "--run-uri", run.uri],
        env=storage_variables(settings) | os.environ | settings.stage_environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )


def main(arguments: list[str]) -> int:
    """Close the run that the arguments name; return the exit code."""
    dag_id, run_id, state = arguments
    try:
        close(dag_id, run_id, success=state == "success")
    except StageError as error:
        sys.stderr.write(f"{dag_id} {run_id}: its MLflow run could not be closed: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
