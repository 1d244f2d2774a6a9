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
    from mlflow.tracking import MlflowClient


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
        """Return what a registered model says of its champion.

        Raises
        ------
        StageError
            MLflow cannot be reached, or there is no such model.
        """
        with mlflow_client(self.environment) as client:
            found = patiently(lambda: client.get_registered_model(model))
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
    from mlflow.exceptions import MlflowException

    with mlflow_client(environment) as client:
        try:
            model = patiently(lambda: client.get_registered_model(model_name))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return History()
            raise
        alias = model.aliases.get(CHAMPION)
        return History.of(
            model.tags.get(LAST_CHAMPION),
            alias=None if alias is None else str(alias),
            blessed=lambda: _blessed(client, model_name),
        )


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


def _blessed(client: "MlflowClient", model_name: str) -> list[Champion]:
    found = patiently(
        lambda: client.search_model_versions(
            f"name = '{model_name}' and tags.verdict = 'blessed'", max_results=1000
        )
    )
    return [Champion(str(each.version), each.tags.get("digest", "")) for each in found]
