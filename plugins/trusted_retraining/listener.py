"""Airflow reports when a DAG run ends, whatever ended it (the scheduler, a time limit or a person),
and when one that was cleared starts again."""

import logging
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)


@hookimpl
def on_dag_run_running(dag_run: Any, msg: str) -> None:
    """Keep the night's MLflow run open when the night was cleared."""
    if not dag_run.clear_number:
        return
    try:
        from trusted_retraining.run_end import keep_open

        keep_open(dag_run.dag_id, dag_run.run_id)
    except Exception:
        log.exception("%s %s: its MLflow run may be closed early", dag_run.dag_id, dag_run.run_id)


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:
    """Close the night's MLflow run."""
    _ended(dag_run, success=True)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:
    """Close the night's MLflow run."""
    _ended(dag_run, success=False)


def _ended(dag_run: Any, *, success: bool) -> None:
    try:
        # imported late: every component of Airflow loads its listeners when it starts
        from trusted_retraining.run_end import close_later, is_open

        if is_open(dag_run.dag_id, dag_run.run_id):
            close_later(dag_run.dag_id, dag_run.run_id, success=success)
    except Exception:
        # a scheduler must go on, whatever is wrong with a night's records
        log.exception("%s %s: its MLflow run may still be open", dag_run.dag_id, dag_run.run_id)
