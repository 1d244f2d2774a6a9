"""Fixtures for all tests."""

import os
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


ON_THE_NODE = (
    "tests/cluster/pod_operator/test_placement.py",
    "tests/cluster/test_cluster_files.py",
    "tests/cluster/test_night.py",
)
"""Tests that use up, or change, what a node of the cluster has: one after the other."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a folder's tests in one process, when there are several: they share their fixtures.

    Those on a cluster take turns over all their folders, since some change its kinds, but for those
    that change its nodes: these take turns among themselves.
    """
    from xdist.scheduler import LoadScopeScheduling

    class LoadFolderScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            if file in ON_THE_NODE:
                return "node"
            folder = file.rpartition("/")[0]
            return "tests/cluster" if folder.startswith("tests/cluster") else folder

    return LoadFolderScheduling(config, log)
