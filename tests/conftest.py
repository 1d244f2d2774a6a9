"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets; its tests are skipped where there is none."""
    folder = Path(os.environ.get("TRUSTED_RETRAINING_DATA", REPOSITORY.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets are absent: {folder} (set TRUSTED_RETRAINING_DATA)")
    return folder.resolve()


# before the plugin that reads the groups
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a folder's tests in one process, when there are several: they share their fixtures."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(str(item.path.parent.relative_to(REPOSITORY))))
