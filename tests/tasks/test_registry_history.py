"""What a real registry remembers of its champions."""

from pathlib import Path
from typing import Any

import pytest

from tasks import registry, registry_history, tracking
from tasks.contract import LAST_CHAMPION, Champion, RegistryEntry
from tasks.environment import Environment
from tasks.registry_history import once_champion
from tests.tasks.places import environment_at


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("mlflow")
    return environment_at(folder, mlflow_uri=f"sqlite:///{folder}/mlflow.db")


def version_of(store: Environment, name: str, **tags: str) -> str:
    """Make a version without files: the registry does not look at them here."""
    with tracking.mlflow_client(store) as client:
        registry._ensure_model(client, name)
        return str(client.create_model_version(name, "file:///none", tags=tags).version)


def client_of(store: Environment) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=store.mlflow_uri, registry_uri=store.mlflow_uri)


def test_a_new_model_has_no_history_however_often_it_was_blessed(store: Environment) -> None:
    version_of(store, "new", digest="d1", verdict="blessed")
    assert once_champion(store, "new") is None
    assert once_champion(store, "unheard_of") is None


@pytest.mark.parametrize("lost", ["alias", "version"])
def test_a_champion_is_remembered_without_its_alias_and_without_its_version(
    store: Environment, lost: str
) -> None:
    version = version_of(store, lost, digest="d" * 64)
    registry.set_alias(store, lost, registry.CHAMPION, version)
    if lost == "alias":
        client_of(store).delete_registered_model_alias(lost, registry.CHAMPION)
    else:
        client_of(store).delete_model_version(lost, version)
    assert registry.champion_identity(store, lost) is None
    assert once_champion(store, lost) == Champion("1", "d" * 64)


def test_the_challenger_is_no_champion(store: Environment) -> None:
    version = version_of(store, "tried", digest="d1")
    registry.set_alias(store, "tried", registry.CHALLENGER, version)
    assert once_champion(store, "tried") is None


def test_a_registry_from_before_the_tag_is_searched_for_blessed_versions(
    store: Environment,
) -> None:
    for verdict in ("blessed", "blessed", "rejected"):
        version_of(store, "older", digest=f"of a {verdict} one", verdict=verdict)
    client_of(store).delete_registered_model_tag("older", LAST_CHAMPION)
    assert once_champion(store, "older") == Champion("2", "of a blessed one")


def test_every_page_of_blessed_versions_is_read(
    store: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_history, "PAGE", 2)
    versions = [version_of(store, "many", digest=f"d{n}", verdict="blessed") for n in range(5)]
    client = client_of(store)
    # one that was changed last comes first in MLflow's own order
    client.set_model_version_tag("many", versions[0], "note", "touched")
    wanted = "name = 'many' and tags.verdict = 'blessed'"
    found = registry_history.versions_by_number(client, wanted)
    assert [str(each.version) for each in found] == versions
    client.delete_registered_model_tag("many", LAST_CHAMPION)
    assert once_champion(store, "many") == Champion(versions[-1], "d4")


def test_an_unknown_model_says_nothing_of_a_champion(store: Environment) -> None:
    entry = registry_history.OwnRegistry(store).entry("unheard_of")
    assert entry == RegistryEntry(alias=None, last=None)


def test_a_registry_without_blessed_versions_has_no_history(store: Environment) -> None:
    client_of(store).create_registered_model("by_hand")
    assert once_champion(store, "by_hand") is None


def test_without_a_registry_nothing_is_remembered(tmp_path: Path) -> None:
    nowhere = environment_at(tmp_path)
    assert once_champion(nowhere, "new") is None
