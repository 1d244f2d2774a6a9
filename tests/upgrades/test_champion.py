"""The champion of an earlier state: it goes on serving under its own digest."""

import shutil
from pathlib import Path

import pytest

from tasks import registry, tracking
from tasks.contract import Altered, tree_sha256
from tasks.serving.files import PREVIOUS, read_pointer, tree_digest
from tests.upgrades.old_state import MODEL, OldState


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


def exported_anew(old_state: OldState, target: Path) -> Path:
    """Make of the champion what the export of today would make of the same weights."""
    from tasks.training.export import _drop_random_id

    shutil.copytree(old_state.root / "served" / MODEL / "2", target)
    _drop_random_id(target / "fingerprint.pb")
    return target


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


def test_what_is_trained_anew_is_a_version_of_its_own(old_state: OldState, tmp_path: Path) -> None:
    champion = registry.champion(old_state.environment, MODEL)
    assert register(old_state, old_state.root / "served" / MODEL / "2") == "2"
    assert register(old_state, exported_anew(old_state, tmp_path / "model")) == "3"
    assert registry.champion(old_state.environment, MODEL) == champion


def test_tags_do_not_make_of_the_champion_another_model(
    old_state: OldState, tmp_path: Path
) -> None:
    model = exported_anew(old_state, tmp_path / "model")
    champion = registry.champion(old_state.environment, MODEL)
    assert champion is not None
    forged = {"digest": tree_sha256(model), "digest_before": champion.digest}
    registry.tag(old_state.environment, MODEL, "2", forged)
    found = registry.champion(old_state.environment, MODEL)
    assert found is not None and not found.is_intact
    with pytest.raises(Altered, match=r"version 2: its files .* are not those that were evaluated"):
        register(old_state, model)
