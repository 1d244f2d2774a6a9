"""An Airflow home of the tests' own, before anything imports Airflow."""

from pathlib import Path

import pytest

from tests import airflow_home
from trusted_retraining.local import home

airflow_home.enter()


@pytest.fixture(scope="session")
def pipelines_folder() -> Path:
    """Folder of the pipeline files as shipped."""
    return home.ROOT / "dags/pipelines"
