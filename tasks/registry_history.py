"""What the registry remembers of champions, although alias and version may be gone by now.

The tag ``last_champion`` of the registered model holds the version that was champion last. It
outlives the alias and the version, both of which a person can delete in MLflow.
"""

from typing import TYPE_CHECKING

from tasks.contract import (
    CHAMPION,
    LAST_CHAMPION,
    Champion,
    History,
    RegistryEntry,
    format_champion,
)
from tasks.environment import Environment
from tasks.tracking import mlflow_client, patiently

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.tracking import MlflowClient

PAGE = 1000
"""Versions that are asked for at a time."""


class OwnRegistry:
    """The registry of an environment as :func:`tasks.contract.return_champion` needs it.

    Parameters
    ----------
    environment : Environment
        Where the registry is.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def entry(self, model: str) -> RegistryEntry:
        """Return what a registered model says of its champion; nothing for an unknown model.

        Raises
        ------
        StageError
            MLflow cannot be reached.
        """
        found = _registered_model(self.environment, model)
        if found is None:
            return RegistryEntry(alias=None, last=None)
        alias = found.aliases.get(CHAMPION)
        return RegistryEntry(
            alias=None if alias is None else str(alias), last=found.tags.get(LAST_CHAMPION)
        )

    def champion(self, model: str) -> Champion | None:
        """Return the version with the alias ``champion``.

        Raises
        ------
        StageError
            MLflow cannot be reached.
        """
        from tasks.registry import champion_identity

        return champion_identity(self.environment, model)

    def point_alias(self, model: str, version: str | None) -> None:
        """Point the alias ``champion`` at a version; None removes it.

        Raises
        ------
        StageError
            MLflow cannot be reached, or there is no such version.
        """
        with mlflow_client(self.environment) as client:
            if version is None:
                patiently(lambda: client.delete_registered_model_alias(model, CHAMPION))
            else:
                patiently(lambda: client.set_registered_model_alias(model, CHAMPION, version))

    def write_last(self, model: str, text: str | None) -> None:
        """Write the tag ``last_champion``; None removes it.

        Raises
        ------
        StageError
            MLflow cannot be reached, or there is no such model.
        """
        with mlflow_client(self.environment) as client:
            if text is None:
                patiently(lambda: client.delete_registered_model_tag(model, LAST_CHAMPION))
            else:
                patiently(lambda: client.set_registered_model_tag(model, LAST_CHAMPION, text))


def champion_history(environment: Environment, model_name: str) -> History:
    """Return what the registry remembers of the champions of a model.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    if not environment.mlflow_uri:
        return History()
    entry = OwnRegistry(environment).entry(model_name)

    def blessed() -> list[Champion]:
        wanted = f"name = '{model_name}' and tags.verdict = 'blessed'"
        with mlflow_client(environment) as client:
            found = versions_by_number(client, wanted)
        return [Champion(str(each.version), each.tags.get("digest", "")) for each in found]

    return History.of(entry.last, alias=entry.alias, blessed=blessed)


def is_registered(environment: Environment, model_name: str) -> bool:
    """Return whether the registry has a model of this name.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    return bool(environment.mlflow_uri) and _registered_model(environment, model_name) is not None


def versions_by_number(client: "MlflowClient", wanted: str) -> "list[ModelVersion]":
    """Return all versions that a filter of MLflow's finds, the oldest first.

    MLflow's own order is that of the last change, so a list that is read page by page could miss
    one that was changed meanwhile.
    """
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = patiently(
            lambda token=token: client.search_model_versions(  # type: ignore[misc]
                wanted, max_results=PAGE, order_by=["version_number ASC"], page_token=token
            )
        )
        found += page
        token = page.token
        if not token:
            return found


def once_champion(environment: Environment, model_name: str) -> Champion | None:
    """Return the version that was champion last, as far as the registry remembers.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    history = champion_history(environment, model_name)
    return history.once or history.guessed


def mark_champion(client: "MlflowClient", model_name: str, champion: Champion | None) -> None:
    """Note who is champion, or that nobody is or ever was."""
    noted = format_champion(champion)
    patiently(lambda: client.set_registered_model_tag(model_name, LAST_CHAMPION, noted))


def _registered_model(environment: Environment, model_name: str) -> "RegisteredModel | None":
    from mlflow.exceptions import MlflowException

    with mlflow_client(environment) as client:
        try:
            return patiently(lambda: client.get_registered_model(model_name))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
