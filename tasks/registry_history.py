"""What the registry remembers of champions, although alias and version may be gone by now.

The tag ``last_champion`` of the registered model holds the version that was champion last. It
outlives the alias and the version, both of which a person can delete in MLflow.
"""

from typing import TYPE_CHECKING

from tasks.contract import LAST_CHAMPION, NOBODY, Champion, format_champion
from tasks.environment import Environment
from tasks.tracking import mlflow_client, patiently

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def once_champion(environment: Environment, model_name: str) -> Champion | None:
    """Return the version that was champion last, as far as the registry remembers.

    A registry that was filled before the tag was written remembers less: there, the newest version
    with ``verdict: blessed`` counts, and so does an alias whose version is gone.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    if not environment.mlflow_uri:
        return None
    from mlflow.exceptions import MlflowException

    with mlflow_client(environment) as client:
        try:
            model = patiently(lambda: client.get_registered_model(model_name))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        noted = model.tags.get(LAST_CHAMPION)
        if noted == NOBODY:
            return None
        if noted:
            version, _, digest = noted.partition(":")
            return Champion(version, digest)
        blessed = patiently(
            lambda: client.search_model_versions(
                f"name = '{model_name}' and tags.verdict = 'blessed'", max_results=1000
            )
        )
        if blessed:
            newest = max(blessed, key=lambda each: int(each.version))
            return Champion(str(newest.version), newest.tags.get("digest", ""))
        left = model.aliases.get("champion")
        return Champion(str(left), "") if left else None


def mark_champion(client: "MlflowClient", model_name: str, champion: Champion | None) -> None:
    """Note who is champion, or that nobody is or ever was."""
    noted = format_champion(champion)
    patiently(lambda: client.set_registered_model_tag(model_name, LAST_CHAMPION, noted))
