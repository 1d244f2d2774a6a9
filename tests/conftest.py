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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a folder's tests in one process, when there are several: they share their fixtures.

    Those on a cluster stay together over all their folders: there is one cluster, and some of them
    change its nodes and its kinds.
    """
    from xdist.scheduler import LoadScopeScheduling

    class LoadFolderScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = nodeid.split("::", 1)[0].rpartition("/")[0]
            return "tests/cluster" if folder.startswith("tests/cluster/") else folder

    return LoadFolderScheduling(config, log)
