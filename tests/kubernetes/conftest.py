"""The cluster files, rendered once for all tests."""

import pytest

from tasks.spec import Pipeline, load_pipeline
from tests import airflow_home
from tests.kubernetes.kustomization import ROOT, Object, render

# an Airflow home of the tests' own, before anything imports Airflow
airflow_home.enter()

OVERLAYS = ("overlays/kind", "overlays/eks")


@pytest.fixture(scope="session", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Object]:
    """Every object of an overlay, and so of the base."""
    return render(ROOT / request.param)


@pytest.fixture(scope="session")
def kind() -> list[Object]:
    """The objects for a cluster to try out."""
    return render(ROOT / "overlays/kind")


@pytest.fixture(scope="session")
def eks() -> list[Object]:
    """The objects for Amazon EKS."""
    return render(ROOT / "overlays/eks")


@pytest.fixture(scope="session")
def pipelines() -> dict[str, Pipeline]:
    """The pipelines as shipped, by name."""
    folder = ROOT.parents[1] / "dags/pipelines"
    return {path.stem: load_pipeline(path) for path in folder.glob("*.yaml")}
