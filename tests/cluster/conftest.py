"""An Airflow home of the tests' own, and the cluster in KUBECONFIG."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from trusted_retraining.local import home

STATE = Path(os.environ.setdefault("TEST_AIRFLOW_STATE", tempfile.mkdtemp(prefix="airflow-")))
home.enter(STATE)


@pytest.fixture(scope="session")
def cluster() -> None:
    """Skip without a cluster that answers."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: KUBECONFIG is not set")
    answer = subprocess.run(
        ["kubectl", "get", "--raw", "/readyz", "--request-timeout=10s"],
        capture_output=True,
        text=True,
    )
    if answer.returncode != 0:
        pytest.skip(f"no cluster: KUBECONFIG is set, but {answer.stderr.strip()[:200]}")
