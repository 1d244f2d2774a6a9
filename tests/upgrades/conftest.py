"""Earlier states of the package, each unpacked where a test may change it."""

import os
from pathlib import Path

import pytest

from tests.upgrades.old_state import ARCHIVES, OldState, unpack

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def serving_python() -> Path:
    """Interpreter of the serving environment."""
    default = REPOSITORY / ".local/serving-venv/bin/python"
    python = Path(os.environ.get("TRUSTED_RETRAINING_SERVING_PYTHON", default))
    if not python.exists():
        pytest.skip(f"no serving environment at {python}: make test creates it")
    return python


@pytest.fixture(params=ARCHIVES, ids=lambda archive: archive.name.removesuffix(".tar.xz"))
def old_state(request: pytest.FixtureRequest, tmp_path: Path) -> OldState:
    """Store, registry, serving root and pipeline files of an earlier state, for one test."""
    root = tmp_path / "old"
    root.mkdir()
    return unpack(request.param, root)
