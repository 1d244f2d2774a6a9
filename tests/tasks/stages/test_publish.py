"""The copy of a judged model to where model servers fetch it."""

from pathlib import Path

import fsspec
import pytest

from tasks.contract import ModelIdentity, StageError, stored_tree_sha256, tree_sha256
from tasks.stages.publish import _copy

FOLDER = "/models/films/7"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model/variables").mkdir(parents=True)
    (tmp_path / "model/saved_model.pb").write_bytes(b"graph")
    (tmp_path / "model/variables/data").write_bytes(b"weights")
    return tmp_path / "model"


@pytest.fixture
def store() -> fsspec.AbstractFileSystem:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    return fs


def identity(model: Path) -> ModelIdentity:
    return ModelIdentity(name="films", version="7", digest=tree_sha256(model))


def test_a_copy_is_made_once_and_completed_after_a_kill(
    model: Path, store: fsspec.AbstractFileSystem
) -> None:
    judged = identity(model)
    assert _copy(model, store, FOLDER, judged) == 2
    assert _copy(model, store, FOLDER, judged) == 0
    store.rm_file(f"{FOLDER}/variables/data")
    store.pipe_file(f"{FOLDER}/saved_model.pb", b"gra")
    store.pipe_file(f"{FOLDER}/assets/foreign", b"x")
    assert _copy(model, store, FOLDER, judged) == 2
    assert stored_tree_sha256(store, FOLDER) == judged.digest
    assert not store.exists(f"{FOLDER}/assets/foreign")


def test_files_that_were_not_judged_are_not_published(
    model: Path, store: fsspec.AbstractFileSystem
) -> None:
    judged = identity(model)
    (model / "variables/data").write_bytes(b"other weights")
    with pytest.raises(StageError, match="are not those that were judged"):
        _copy(model, store, FOLDER, judged)
    assert store.store == {}


def test_a_store_that_keeps_something_else_is_told(
    model: Path, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        store, "put_file", lambda source, target: store.pipe_file(target, b"cut off")
    )
    with pytest.raises(StageError, match="reads back with digest"):
        _copy(model, store, FOLDER, identity(model))
