"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets; its tests are skipped where there is none."""
    folder = Path(os.environ.get("TRUSTED_RETRAINING_DATA", REPOSITORY.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets are absent: {folder} (set TRUSTED_RETRAINING_DATA)")
    return folder.resolve()


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Address of an S3 API on loopback that takes the credentials of ``tests.s3_server`` alone."""
    from tests.s3_server import serve

    with serve() as address:
        yield address


ON_THE_NODE = [
    REPOSITORY / "tests/cluster" / name
    for name in (
        "pod_operator/test_gpu_pool.py",
        "deploy/test_servers_on_cluster.py",
        "test_cluster_files.py",
        "test_night.py",
    )
]
"""Tests on a cluster that change what its node has, or are disturbed when others do."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a folder's tests in one process, when there are several: they share their fixtures.

    Of the tests on a cluster two groups run side by side: those of :data:`ON_THE_NODE`, and the
    rest, whose pods tolerate a taint and want no card.
    """
    from xdist.scheduler import LoadScopeScheduling

    absent = [str(path) for path in ON_THE_NODE if not path.is_file()]
    if absent:
        raise pytest.UsageError(f"tests/conftest.py: ON_THE_NODE: no file {', '.join(absent)}")

    class LoadFolderScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            if REPOSITORY / file in ON_THE_NODE:
                return "the node of the cluster"
            folder = file.rpartition("/")[0]
            return "tests/cluster" if f"{folder}/".startswith("tests/cluster/") else folder

    return LoadFolderScheduling(config, log)
