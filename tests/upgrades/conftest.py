"""Earlier states of the package, each unpacked where a test may change it."""

from pathlib import Path

import pytest

from tests.upgrades.old_state import ARCHIVES, OldState, unpack


@pytest.fixture(params=ARCHIVES, ids=lambda archive: archive.name.removesuffix(".tar.xz"))
def old_state(request: pytest.FixtureRequest, tmp_path: Path) -> OldState:
    """Store, registry, serving root and pipeline files of an earlier state, for one test."""
    root = tmp_path / "old"
    root.mkdir()
    return unpack(request.param, root)
