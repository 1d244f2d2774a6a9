"""An Airflow home of the tests' own, before anything imports Airflow."""

import os
import tempfile
from pathlib import Path

import pytest

from trusted_retraining.local import home

STATE = Path(os.environ.setdefault("TEST_AIRFLOW_STATE", tempfile.mkdtemp(prefix="airflow-")))
home.enter(STATE)


@pytest.fixture(scope="session")
def pipelines_folder() -> Path:
    """Folder of the pipeline files as shipped."""
    return home.ROOT / "dags/pipelines"
