"""What the registry says of its champion before a deployment, and the way back to it."""

import logging
from typing import Any

from tasks.contract import LAST_CHAMPION, Champion
from tasks.environment import Environment

log = logging.getLogger("tasks")


def registry_before(environment: Environment, model_name: str) -> dict[str, Any]:
    """Return alias and history of a registered model, as plain values.

    Raises
    ------
    StageError
        MLflow cannot be reached, or there is no such model.
    """
    from tasks.registry import CHAMPION
    from tasks.tracking import mlflow_client, patiently

    with mlflow_client(environment) as client:
        model = patiently(lambda: client.get_registered_model(model_name))
    alias = model.aliases.get(CHAMPION)
    return {
        CHAMPION: None if alias is None else str(alias),
        LAST_CHAMPION: model.tags.get(LAST_CHAMPION),
    }


def return_champion(
    environment: Environment, model_name: str, ours: Champion, before: dict[str, Any]
) -> None:
    """Put alias and history back where they name a version that was not deployed after all.

    What a person moved elsewhere meanwhile stays.

    Parameters
    ----------
    environment : Environment
        Where the registry is.
    model_name : str
        Registered model.
    ours : Champion
        The version that was not deployed.
    before : dict
        What :func:`registry_before` returned.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    from tasks.registry import CHAMPION
    from tasks.tracking import mlflow_client, patiently

    now = registry_before(environment, model_name)
    alias, last = before.get(CHAMPION), before.get(LAST_CHAMPION)
    with mlflow_client(environment) as client:
        if now[CHAMPION] == ours.version != alias:
            if alias is None:
                patiently(lambda: client.delete_registered_model_alias(model_name, CHAMPION))
            else:
                patiently(lambda: client.set_registered_model_alias(model_name, CHAMPION, alias))
            log.warning("the alias %s is back at %s", CHAMPION, alias or "no version")
        # after the alias: a champion that nobody noted would be worse
        # by the version: an earlier release's may have been noted with the digest of its files
        noted = now[LAST_CHAMPION] or ""
        if noted.partition(":")[0] == ours.version and noted != last:
            if last is None:
                patiently(lambda: client.delete_registered_model_tag(model_name, LAST_CHAMPION))
            else:
                patiently(lambda: client.set_registered_model_tag(model_name, LAST_CHAMPION, last))
