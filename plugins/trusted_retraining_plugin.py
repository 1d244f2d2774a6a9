"""Registers the package with Airflow; the plugins folder is searched for this."""

from airflow.plugins_manager import AirflowPlugin

from trusted_retraining import listener
from trusted_retraining.links import PREFIX, MlflowRunLink, PublishedLink, TrustReportLink
from trusted_retraining.redirects import Redirects


class TrustedRetrainingPlugin(AirflowPlugin):
    """Operator links, so that the API server knows them by name, what they lead to, and the
    listener that ends the MLflow run of a DAG run."""

    name = "trusted_retraining"
    operator_extra_links = [MlflowRunLink(), TrustReportLink(), PublishedLink()]
    fastapi_apps = [{"name": "trusted_retraining", "app": Redirects(), "url_prefix": PREFIX}]
    listeners = [listener]
