"""Buttons on a task's page that lead to the night's MLflow run and to its trust report."""

from typing import Any

from airflow.sdk import BaseOperatorLink

from trusted_retraining.settings import Settings
from trusted_retraining.storage import run_directory


class MlflowRunLink(BaseOperatorLink):
    """The MLflow run of this DAG run."""

    name = "MLflow run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; empty as long as no stage has been logged."""
        return mlflow_run_address(ti_key.dag_id, ti_key.run_id)


class TrustReportLink(BaseOperatorLink):
    """The night's report, among the artifacts of its MLflow run."""

    name = "Trust report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return where the report will be; empty as long as no stage has been logged.

        Airflow asks once, when the task ends. The tasks before ``report`` would never get their
        button if the report had to be there.
        """
        address = mlflow_run_address(ti_key.dag_id, ti_key.run_id)
        return f"{address}/artifacts/report/report.html" if address else ""


class PublishedLink(BaseOperatorLink):
    """What a task put outside of the run, where the pipeline file says: report or data set."""

    name = "Published"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address for a browser where there is one, else the URI; empty when nothing was
        published."""
        run = run_directory(Settings.read(), ti_key.dag_id, ti_key.run_id)
        manifest = run.read_manifest(ti_key.task_id)
        addresses = manifest.addresses if manifest else {}
        return addresses.get("report_page") or next(iter(addresses.values()), "")


def mlflow_run_address(pipeline: str, run_id: str) -> str:
    """Return where the MLflow UI shows a night; empty when nothing has been logged.

    Parameters
    ----------
    pipeline : str
        Pipeline name, which is also the DAG's.
    run_id : str
        Airflow's run id.
    """
    settings = Settings.read()
    note = run_directory(settings, pipeline, run_id).read_json("mlflow.json")
    if not settings.mlflow_ui or not isinstance(note, dict):
        return ""
    experiment, run = note.get("experiment_id"), note.get("run_id")
    return f"{settings.mlflow_ui}/#/experiments/{experiment}/runs/{run}" if run else ""
