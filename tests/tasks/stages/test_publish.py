"""The copy of a judged model to where model servers fetch it."""

from pathlib import Path

import fsspec
import pytest

from tasks.contract import Altered, ModelIdentity, StageError, stored_tree_sha256, tree_sha256
from tasks.stages.publish import _put

PLACE = "/models/films"


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


def put(model: Path, store: fsspec.AbstractFileSystem, judged: ModelIdentity) -> tuple[str, int]:
    return _put(model, store, PLACE, "7", judged)


def stored(store: fsspec.AbstractFileSystem) -> dict[str, bytes]:
    return {path: store.cat_file(path) for path in store.find("/")}


def test_a_copy_is_made_once_and_completed_after_a_kill(
    model: Path, store: fsspec.AbstractFileSystem
) -> None:
    judged = identity(model)
    folder, copied = put(model, store, judged)
    assert (folder, copied) == (f"{PLACE}/7-{judged.digest[:12]}", 2)
    assert put(model, store, judged) == (folder, 0)
    store.rm_file(f"{folder}/variables/data")
    assert put(model, store, judged) == (folder, 1)
    assert stored_tree_sha256(store, folder) == judged.digest


@pytest.mark.parametrize("path", ["saved_model.pb", "assets/foreign"])
def test_a_folder_that_holds_something_else_is_left_alone(
    model: Path, store: fsspec.AbstractFileSystem, path: str
) -> None:
    judged = identity(model)
    folder, _ = put(model, store, judged)
    store.pipe_file(f"{folder}/{path}", b"other")
    before = stored(store)
    assert put(model, store, judged) == (f"{folder}.2", 2)
    assert stored_tree_sha256(store, f"{folder}.2") == judged.digest
    assert stored(store).items() >= before.items()


def test_another_model_of_the_same_version_leaves_the_first_in_its_place(
    model: Path, store: fsspec.AbstractFileSystem
) -> None:
    """A registry that was set up anew counts from 1 again."""
    put(model, store, identity(model))
    before = stored(store)
    (model / "variables/data").write_bytes(b"other weights")
    judged = identity(model)
    assert put(model, store, judged) == (f"{PLACE}/7-{judged.digest[:12]}", 2)
    assert stored(store).items() >= before.items()


def test_a_folder_of_an_earlier_release_is_used_if_it_holds_the_model(
    model: Path, store: fsspec.AbstractFileSystem
) -> None:
    judged = identity(model)
    store.put(f"{model}/", f"{PLACE}/7/", recursive=True)
    assert put(model, store, judged) == (f"{PLACE}/7", 0)
    store.pipe_file(f"{PLACE}/7/saved_model.pb", b"another registry's version 7")
    before = stored(store)
    assert put(model, store, judged) == (f"{PLACE}/7-{judged.digest[:12]}", 2)
    assert stored(store).items() >= before.items()


def test_files_that_were_not_judged_are_not_published(
    model: Path, store: fsspec.AbstractFileSystem
) -> None:
    judged = identity(model)
    (model / "variables/data").write_bytes(b"other weights")
    with pytest.raises(Altered, match="are not those that were judged") as refused:
        put(model, store, judged)
    assert refused.value.exit_code == 65
    assert store.store == {}


def test_a_store_that_keeps_something_else_is_told(
    model: Path, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        store, "put_file", lambda source, target, **_: store.pipe_file(target, b"cut off")
    )
    with pytest.raises(StageError, match="reads back with digest"):
        put(model, store, identity(model))
