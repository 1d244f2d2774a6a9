"""The records as the command reads and shows them."""

import logging

from tasks.contract import (
    NOBODY,
    ChampionRecords,
    Disagreement,
    agreed_champion,
    parse_champion,
)
from tasks.environment import Environment
from tasks.serving.champion_log import noted_champion
from tasks.spec.masking import masked
from tasks.stages.who_serves import records_here, records_with, unseen

log = logging.getLogger("tasks")


def show_champion(environment: Environment, model: str) -> None:
    """Log the three records, and what follows from them.

    Raises
    ------
    Disagreement
        They contradict each other.
    StageError
        One cannot be read.
    """
    records, torn = read_records(environment, model)
    serving = environment.serving_root / model / "champion.json"
    if environment.mlflow_uri:
        where = masked(environment.mlflow_uri)
        log.info("registry  %s  (alias champion, %s)", records.registry or NOBODY, where)
    else:
        log.info("registry  not asked  (MLFLOW_TRACKING_URI is not set)")
    log.info(
        "served    %s  (%s)",
        "cannot be read" if torn else records.served or NOBODY,
        "--served" if environment.served else serving,
    )
    log.info("history   %s  (champion last)", records.last or NOBODY)
    if records.once and records.logged not in (None, records.once):
        log.info("          %s  (by champions.jsonl)", records.logged)
    if torn:
        raise torn
    champion = agreed_champion(records)
    log.info("%s: %s", model, f"{champion} is the champion" if champion else "no champion yet")


def check_seen(environment: Environment, model: str) -> None:
    """Refuse where neither this machine nor ``--served`` says what serves.

    Raises
    ------
    BadConfig
        It is so.
    """
    seen = environment.served or environment.serves_here
    if not seen and not (environment.serving_root / model).is_dir():
        raise unseen(model)


def read_records(
    environment: Environment, model: str
) -> tuple[ChampionRecords, Disagreement | None]:
    """Return the records, and what is wrong with the pointer if it cannot be read.

    Raises
    ------
    StageError
        What serves is not to be seen from here, MLflow cannot be reached, or ``champions.jsonl``
        cannot be read.
    """
    check_seen(environment, model)
    if environment.served:
        served = parse_champion(environment.served)
        return records_with(environment, model, served=served), None
    try:
        return records_here(environment, model), None
    except Disagreement as error:
        try:
            logged = noted_champion(environment.serving_root / model)
        except ValueError:
            # no record can be put right while this file is there
            raise error from None
        return records_with(environment, model, served=None, logged=logged), error
