"""The champion of an earlier state: it goes on serving, and is recognised."""

import shutil
from pathlib import Path

import pytest

from tasks import registry, tracking
from tasks.contract import Altered, tree_sha256
from tasks.same_model import is_same_model
from tasks.serving.files import PREVIOUS, read_pointer, tree_digest
from tests.upgrades.old_state import MODEL, OldState


def exported_anew(old_state: OldState, target: Path, *, renumber: bool = False) -> Path:
    """Make of the champion what the export of today would make of the same weights."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    from tasks.training.export import _drop_random_id

    shutil.copytree(old_state.root / "served" / MODEL / "2", target)
    _drop_random_id(target / "fingerprint.pb")
    if renumber:
        path = target / "saved_model.pb"
        saved = SavedModel.FromString(path.read_bytes())
        names = [each.signature.name for each in saved.meta_graphs[0].graph_def.library.function]
        assert all(name[-1].isdigit() for name in names)
        text = path.read_bytes()
        for name in names:
            # of the same length, so that the file stays one
            stem, _, number = name.rpartition("_")
            digits = str(int(number) + 1000)[-len(number) :]
            text = text.replace(name.encode(), f"{stem}_{digits}".encode())
        path.write_bytes(text)
    return target


def recognise(old_state: OldState, model: Path) -> None:
    registry.recognise_champion(
        old_state.environment, model_name=MODEL, model_dir=model, digest=tree_sha256(model)
    )


def tags(old_state: OldState, version: str) -> dict[str, str]:
    with tracking.mlflow_client(old_state.environment) as client:
        return dict(client.get_model_version(MODEL, version).tags)


def test_the_champion_is_known_with_intact_files_and_serves_from_its_folder(
    old_state: OldState,
) -> None:
    champion = registry.champion(old_state.environment, MODEL)
    assert champion is not None and champion.version == "2" and champion.is_intact
    folder = old_state.root / "served" / MODEL
    for name, version in ((None, "2"), (PREVIOUS, "1")):
        pointer = read_pointer(folder) if name is None else read_pointer(folder, name=name)
        assert pointer is not None and (pointer.version, pointer.path) == (version, version)
        # what a server asks before it loads a folder
        assert tree_digest(folder / pointer.path) == pointer.digest


@pytest.mark.parametrize("renumber", [False, True], ids=["same counter", "another counter"])
def test_an_equal_model_is_recognised_once_and_its_digest_rewritten(
    old_state: OldState, tmp_path: Path, renumber: bool
) -> None:
    before = tags(old_state, "2")
    model = exported_anew(old_state, tmp_path / "model", renumber=renumber)
    assert tree_sha256(model) != before["digest"]
    recognise(old_state, model)
    after = tags(old_state, "2")
    assert after["digest"] == tree_sha256(model)
    assert after["digest_before"] == before["digest"]
    assert {name: after[name] for name in before} == before | {"digest": after["digest"]}
    # by either digest it is version 2, with the files that it always had
    for digest in (after["digest"], after["digest_before"]):
        assert registry.find_by_digest(old_state.environment, MODEL, digest) == "2"
    champion = registry.champion(old_state.environment, MODEL)
    assert champion is not None and champion.is_intact
    recognise(old_state, exported_anew(old_state, tmp_path / "again"))
    assert tags(old_state, "2") == after


@pytest.mark.parametrize("file", ["variables/variables.data-00000-of-00001", "model.json"])
def test_a_model_with_other_weights_or_classes_is_another_one(
    old_state: OldState, tmp_path: Path, file: str
) -> None:
    before = tags(old_state, "2")
    model = exported_anew(old_state, tmp_path / "model")
    content = bytearray((model / file).read_bytes())
    content[-9] ^= 1
    (model / file).write_bytes(content)
    recognise(old_state, model)
    assert tags(old_state, "2") == before


def test_another_graph_over_the_same_weights_is_another_model(
    old_state: OldState, tmp_path: Path
) -> None:
    model = exported_anew(old_state, tmp_path / "model")
    graph = model / "saved_model.pb"
    assert b"Relu" in graph.read_bytes()
    graph.write_bytes(graph.read_bytes().replace(b"Relu", b"Selu"))
    assert not is_same_model(old_state.root / "served" / MODEL / "2", model)


def test_a_champion_whose_files_were_altered_is_not_recognised(
    old_state: OldState, tmp_path: Path
) -> None:
    model = exported_anew(old_state, tmp_path / "model")
    champion = registry.champion(old_state.environment, MODEL)
    assert champion is not None
    (champion.model_dir / "fingerprint.pb").write_bytes(b"")
    before = tags(old_state, "2")
    recognise(old_state, model)
    assert tags(old_state, "2") == before


def register(old_state: OldState, model: Path) -> str:
    with tracking.mlflow_client(old_state.environment) as client:
        run_id = client.get_model_version(MODEL, "2").run_id
    return registry.register(
        old_state.environment,
        model_name=MODEL,
        model_dir=model,
        digest=tree_sha256(model),
        run_id=str(run_id),
        example=lambda: b"\x89PNG",
        tags={},
    )


def test_a_recognised_model_is_registered_already_and_another_is_a_new_version(
    old_state: OldState, tmp_path: Path
) -> None:
    model = exported_anew(old_state, tmp_path / "model")
    recognise(old_state, model)
    assert register(old_state, model) == "2"
    (model / "model.json").write_text("{}")
    assert register(old_state, model) == "3"
    champion = registry.champion(old_state.environment, MODEL)
    assert champion is not None
    (champion.model_dir / "model.json").write_text("{}")
    with pytest.raises(Altered, match="not those that were evaluated"):
        register(old_state, exported_anew(old_state, tmp_path / "again"))


def test_tags_alone_do_not_make_of_the_champion_another_model(
    old_state: OldState, tmp_path: Path
) -> None:
    model = exported_anew(old_state, tmp_path / "model")
    (model / "model.json").write_text("{}")
    champion = registry.champion(old_state.environment, MODEL)
    assert champion is not None
    forged = {"digest": tree_sha256(model), "digest_before": champion.digest}
    registry.tag(old_state.environment, MODEL, "2", forged)
    with pytest.raises(Altered, match=r"version 2: its files .* are not those that were evaluated"):
        register(old_state, model)
