"""What Airflow would have of a task whose pod runs on the cluster: settings, and a context."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cluster.images import BASE

RUN_ID = "manual__2026-07-04T02:00:00+00:00"


class TaskInstance(SimpleNamespace):
    """What the provider asks of Airflow's task instance."""

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def task_context(
    dag_id: str,
    task_id: str,
    *,
    run_id: str = RUN_ID,
    attempt: int = 1,
    store: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the context of an attempt of a task; ``store`` is kept over its attempts."""
    ti = TaskInstance(
        dag_id=dag_id,
        task_id=task_id,
        run_id=run_id,
        map_index=-1,
        try_number=attempt,
        start_date=datetime.now(UTC),
        pushed={},
    )
    dag = SimpleNamespace(dag_id=dag_id)
    return {"ti": ti, "run_id": run_id, "params": {}, "dag": dag, "task_state_store": store}


def run_pods_in(namespace: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set pods of the smallest image to run in a namespace, with their runs in ``folder/runs``."""
    for name, value in {
        "RUNTIME": "kubernetes",
        "NAMESPACE": namespace,
        "STORAGE_ROOT": str(folder / "runs"),
        "MLFLOW_URI": "http://mlflow:5000",
        "TASKS_IMAGE": BASE,
        "IMAGE_PULL_POLICY": "IfNotPresent",
        "NODE_SELECTOR": "{}",
        "TERMINATION_GRACE_SECONDS": "5",
        "POLL_SECONDS": "1",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", '{"conn_type": "kubernetes"}')
