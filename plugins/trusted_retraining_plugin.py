"""Registers the package with Airflow; the plugins folder is searched for this."""

from airflow.plugins_manager import AirflowPlugin

from trusted_retraining.links import MlflowRunLink, PublishedLink, TrustReportLink


class TrustedRetrainingPlugin(AirflowPlugin):
    """Operator links, so that the API server knows them by name."""

    name = "trusted_retraining"
    operator_extra_links = [MlflowRunLink(), TrustReportLink(), PublishedLink()]
