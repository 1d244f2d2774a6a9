"""Buttons on a task's page that lead to the night's MLflow run and to its trust report."""

from typing import Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

from trusted_retraining.settings import Settings
from trusted_retraining.storage import run_directory

PREFIX = "/trusted_retraining"
"""Where Airflow's API server mounts :class:`trusted_retraining.redirects.Redirects`."""


class MlflowRunLink(BaseOperatorLink):
    """The MLflow run of this DAG run."""

    name = "MLflow run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address at which the API server leads on; empty without MLflow."""
        return _redirect(ti_key, "mlflow")


class TrustReportLink(BaseOperatorLink):
    """The night's report, among the artifacts of its MLflow run."""

    name = "Trust report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address at which the API server leads on; empty without MLflow."""
        return _redirect(ti_key, "report")


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


def _redirect(ti_key: Any, target: str) -> str:
    settings = Settings.read()
    if not settings.mlflow_uri or not settings.mlflow_ui:
        return ""
    # the path alone: the page that shows the button knows the machine and port
    base = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    return f"{base}{PREFIX}/{ti_key.dag_id}/{quote(ti_key.run_id)}/{target}"


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


def report_address(pipeline: str, run_id: str) -> str:
    """Return where the MLflow UI shows a night's report; empty when there is none.

    Parameters
    ----------
    pipeline, run_id : str
        As for :func:`mlflow_run_address`.
    """
    address = mlflow_run_address(pipeline, run_id)
    manifest = run_directory(Settings.read(), pipeline, run_id).read_manifest("report")
    return f"{address}/artifacts/report/report.html" if address and manifest else ""
