"""An Airflow home of the tests' own, and the cluster in KUBECONFIG."""

import os
import subprocess

import pytest

from tests import airflow_home

airflow_home.enter()


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
