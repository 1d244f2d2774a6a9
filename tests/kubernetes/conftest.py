"""The cluster files, rendered once for all tests."""

from collections.abc import Iterator

import pytest

from tasks.spec import Pipeline, load_pipeline
from tests import airflow_home, s3_server
from tests.kubernetes.iam import BUCKET, POLICIES, policy_for
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
def s3_of_roles() -> Iterator[str]:
    """Address of an S3 API with the bucket, whose identities have the policies of the roles."""
    with s3_server.serve(policies={role: policy_for(role) for role in POLICIES}) as address:
        s3_server.client(address).create_bucket(Bucket=BUCKET)
        yield address


@pytest.fixture(scope="session")
def pipelines() -> dict[str, Pipeline]:
    """The pipelines as shipped, by name."""
    folder = ROOT.parents[1] / "dags/pipelines"
    return {path.stem: load_pipeline(path) for path in folder.glob("*.yaml")}
