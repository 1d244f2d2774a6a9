"""Who is champion, by every record that a stage can see."""

from tasks.contract import (
    BadConfig,
    Champion,
    ChampionRecords,
    Disagreement,
    agreed_champion,
    champion_records,
    parse_champion,
)
from tasks.environment import Environment
from tasks.serving.champion_log import noted_champion
from tasks.serving.files import read_what_serves
from tasks.stages.base import StageContext


def who_serves(context: StageContext) -> Champion | None:
    """Return the champion on whom all records agree; None when none of them knows one.

    Raises
    ------
    Disagreement
        They contradict each other, or one cannot be read.
    StageError
        MLflow cannot be reached.
    """
    return agreed_champion(records_of(context))


def records_of(context: StageContext) -> ChampionRecords:
    """Return what registry, serving place and history say about the champion.

    Raises
    ------
    BadConfig
        A cluster serves the model, and nobody said what.
    Disagreement
        There is a pointer that cannot be read.
    StageError
        MLflow cannot be reached.
    """
    environment, model = context.environment, context.pipeline.model_name
    if environment.served:
        served = parse_champion(environment.served)
        return records_with(environment, model, served=served)
    by_cluster = context.pipeline.deploy.by_cluster(context.pipeline.runtime)
    if by_cluster or not (context.run.is_local or environment.serves_here):
        raise unseen(model)
    return records_here(environment, model)


def unseen(model: str) -> BadConfig:
    """Return the error for a model that something else serves than this machine."""
    return BadConfig(
        f"{model}: a cluster serves it, which this process cannot see: give --served "
        "VERSION:DIGEST, or --served none (docs/serving.md says how to look it up); if this "
        "machine serves it, set TRUSTED_RETRAINING_SERVING_ROOT"
    )


def records_here(environment: Environment, model: str) -> ChampionRecords:
    """Return the records of a model that this machine serves.

    Raises
    ------
    Disagreement
        There is a pointer that cannot be read.
    StageError
        MLflow cannot be reached.
    """
    folder = environment.serving_root / model
    try:
        pointer, logged = read_what_serves(folder), noted_champion(folder)
    except ValueError as error:
        raise Disagreement(
            f"{model}: who serves is not certain: {error}; look at the records with 'python -m "
            f"tasks champion --model {model}' and put this one right with --set served"
        ) from error
    served = None if pointer is None else Champion(pointer.version, pointer.digest)
    return records_with(environment, model, served=served, logged=logged)


def records_with(
    environment: Environment,
    model: str,
    *,
    served: Champion | None,
    logged: Champion | None = None,
) -> ChampionRecords:
    """Return the registry's records beside what is known of the place that serves.

    Parameters
    ----------
    environment : Environment
        Where the registry is.
    model : str
        Registered model.
    served : Champion or None
        What serves.
    logged : Champion or None
        The last champion by the record below the serving root.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    if not environment.mlflow_uri:
        return champion_records(model, served=served, logged=logged)
    # imported late: it takes seconds, for which a stage without a registry need not wait
    from tasks.registry import champion_identity
    from tasks.registry_history import champion_history

    return champion_records(
        model,
        served=served,
        logged=logged,
        registry=champion_identity(environment, model),
        history=champion_history(environment, model),
    )
