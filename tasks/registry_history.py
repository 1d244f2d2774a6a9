"""What the registry remembers of champions, although alias and version may be gone by now.

The tag ``last_champion`` of the registered model holds the version that was champion last. It
outlives the alias and the version, both of which a person can delete in MLflow.
"""

from typing import TYPE_CHECKING, NamedTuple

from tasks.contract import LAST_CHAMPION, NOBODY, Champion, format_champion
from tasks.environment import Environment
from tasks.tracking import mlflow_client, patiently

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


class History(NamedTuple):
    """What a registry remembers.

    Attributes
    ----------
    once : Champion or None
        Whom the tag names.
    guessed : Champion or None
        In a registry that was filled before there was the tag: the newest version with ``verdict:
        blessed``, or an alias whose version is gone.
    never : bool
        Whether the tag says that nobody is or was champion.
    """

    once: Champion | None = None
    guessed: Champion | None = None
    never: bool = False


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
        noted = model.tags.get(LAST_CHAMPION)
        if noted == NOBODY:
            return History(never=True)
        if noted:
            version, _, digest = noted.partition(":")
            return History(once=Champion(version, digest))
        blessed = patiently(
            lambda: client.search_model_versions(
                f"name = '{model_name}' and tags.verdict = 'blessed'", max_results=1000
            )
        )
        if blessed:
            newest = max(blessed, key=lambda each: int(each.version))
            return History(guessed=Champion(str(newest.version), newest.tags.get("digest", "")))
        left = model.aliases.get("champion")
        return History(guessed=Champion(str(left), "") if left else None)


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
