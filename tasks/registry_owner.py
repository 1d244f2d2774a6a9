"""Whose a registered model is: no pipeline judges or replaces the model of another.

Two pipeline files that ask for one model are an error where DAGs are made. Which of them is in the
right files cannot say, for they have no age; the registry can.
"""

from tasks.environment import Environment
from tasks.spec import Pipeline

PIPELINE_TAG = "pipeline"
"""Tag of a version with the name of the pipeline that made it."""


def foreign_model(environment: Environment, pipeline: Pipeline) -> str:
    """Return why a pipeline must leave its registered model alone; empty when it is its own.

    The model belongs to the pipeline that made its champion or, where there is no champion or
    nothing tells, to the one that made its oldest version.

    Parameters
    ----------
    environment : Environment
        Without an ``mlflow_uri`` there is no registry, and nothing to tell.
    pipeline : Pipeline
        The night's.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    version, owner = _owner(environment, pipeline.model_name)
    if owner in ("", pipeline.name):
        return ""
    return (
        f"registered model {pipeline.model_name!r} belongs to pipeline {owner!r} (tag "
        f"{PIPELINE_TAG!r} of version {version}), not to {pipeline.name!r}: give a "
        f"deploy.model_name of its own; if {owner!r} is this pipeline's former name, set that "
        f"tag to {pipeline.name!r} in MLflow"
    )


def _owner(environment: Environment, model_name: str) -> tuple[str, str]:
    """Return version and pipeline of the one that tells; empty where none does."""
    if not environment.mlflow_uri:
        return "", ""
    # imported late: it takes seconds, for which a stage without a registry need not wait
    from tasks.registry import champion_identity, tags_of
    from tasks.tracking import mlflow_client, patiently

    champion = champion_identity(environment, model_name)
    if champion is not None:
        made_by = tags_of(environment, model_name, champion.version).get(PIPELINE_TAG)
        if made_by:
            return champion.version, made_by
    with mlflow_client(environment) as client:
        versions = patiently(
            lambda: client.search_model_versions(
                f"name = '{model_name}'", order_by=["version_number ASC"], max_results=1000
            )
        )
    for each in versions:
        if each.tags.get(PIPELINE_TAG):
            return str(each.version), each.tags[PIPELINE_TAG]
    return "", ""
