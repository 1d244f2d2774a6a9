"""The last step of a blessed night on a cluster: the model into service."""

from typing import Any

from airflow.sdk import BaseOperator

from tasks.spec import Pipeline
from trusted_retraining.operators.stage import StageMixin
from trusted_retraining.serving.publication import check_published_files, read_blessed
from trusted_retraining.settings import Settings


class DeployOperator(StageMixin, BaseOperator):
    """Put the published model into service on the cluster; move the alias ``champion`` last.

    Parameters
    ----------
    pipeline : Pipeline
        The pipeline as in its file.
    settings : Settings
        The installation's settings.
    **kwargs
        Passed to Airflow's ``BaseOperator``.
    """

    def __init__(self, *, pipeline: Pipeline, settings: Settings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stage = "deploy"
        self.pipeline = pipeline
        self.settings = settings

    def execute(self, context: Any) -> dict[str, Any]:
        """Deploy, and return the manifest."""
        run = self.run_directory(context)
        _, publication = read_blessed(run, model_name=self.pipeline.model_name)
        check_published_files(run, publication)
        return self.result(context)
