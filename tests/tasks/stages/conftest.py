"""A champion by every record, in a registry and a folder of each test."""

import shutil
from pathlib import Path

import pytest

from tasks import registry
from tasks.contract import Champion, tree_sha256
from tasks.environment import Environment
from tests.tasks.stages.champions import Night, bless, nights_at, place_at, serve


@pytest.fixture
def place(tmp_path: Path) -> Environment:
    return place_at(tmp_path)


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return nights_at(tmp_path)


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory, made_up_evidence: None) -> Path:
    """Version 1, champion by every record."""
    root = tmp_path_factory.mktemp("first")
    place, run = place_at(root), nights_at(root)("first")
    verdict = bless(run, place)
    assert verdict.blessed and verdict.rules[-1].reason == "no champion yet"
    serve(run, place, "1")
    registry.set_alias(place, "films", registry.CHAMPION, "1")
    return root


@pytest.fixture
def champion(first_night: Path, tmp_path: Path) -> Champion:
    """The first night's champion, in a registry and a folder of this test."""
    shutil.copytree(first_night, tmp_path, dirs_exist_ok=True)
    return Champion("1", tree_sha256(tmp_path / "served/films/1"))
