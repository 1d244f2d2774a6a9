"""Whose a registered model is: no pipeline judges or replaces the model of another.

Two pipeline files that ask for one model are an error where DAGs are made. Which of them is in the
right files cannot say, for they have no age; the registry and ``champions.jsonl`` can.
"""

from tasks.contract import Owner, foreign_to, owner_by_tags
from tasks.environment import Environment
from tasks.serving.champion_log import CHAMPIONS, noted_pipeline
from tasks.spec import Pipeline


def foreign_model(environment: Environment, pipeline: Pipeline) -> str:
    """Return why a pipeline must leave its registered model alone; empty when it is its own.

    Parameters
    ----------
    environment : Environment
        Where the registry and the served models are.
    pipeline : Pipeline
        The night's.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    owner = owner_of(environment, pipeline.model_name)
    return foreign_to(pipeline.name, owner, model=pipeline.model_name)


def owner_of(environment: Environment, model: str) -> Owner:
    """Return whose a model is.

    It belongs to the pipeline that made its champion: by the registry, else by the record beside
    what serves on this machine. Where neither tells, to the one that made its oldest version.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    return (
        _by_champion(environment, model)
        or _by_log(environment, model)
        or _by_oldest(environment, model)
        or Owner()
    )


def _by_champion(environment: Environment, model: str) -> Owner | None:
    if not environment.mlflow_uri:
        return None
    # imported late: it takes seconds, for which a stage without a registry need not wait
    from tasks.registry import champion_identity, tags_of

    champion = champion_identity(environment, model)
    if champion is None:
        return None
    return owner_by_tags(champion.version, tags_of(environment, model, champion.version))


def _by_log(environment: Environment, model: str) -> Owner | None:
    if environment.served:
        return None
    try:
        pipeline = noted_pipeline(environment.serving_root / model)
    except ValueError:
        # who serves cannot be read either, which is a refusal with the way out
        return None
    if not pipeline:
        return None
    return Owner(
        pipeline,
        f"{CHAMPIONS} beside what serves",
        f"say so with 'python -m tasks champion --model {model} --set served --pipeline {{name}} "
        "--reason TEXT'",
    )


def _by_oldest(environment: Environment, model: str) -> Owner | None:
    if not environment.mlflow_uri:
        return None
    from tasks.registry_history import versions_by_number
    from tasks.tracking import mlflow_client

    with mlflow_client(environment) as client:
        versions = versions_by_number(client, f"name = '{model}'")
    found = (owner_by_tags(str(each.version), each.tags) for each in versions)
    return next((each for each in found if each is not None), None)
