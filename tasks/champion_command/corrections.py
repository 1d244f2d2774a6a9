"""Putting one record right, as a person decided."""

import json
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from tasks import registry
from tasks.champion_command.alias import move_alias
from tasks.champion_command.pointer import move_pointer
from tasks.champion_command.shown import check_seen, read_records, show_champion
from tasks.contract import (
    CHAMPION,
    NOBODY,
    PIPELINE_TAG,
    BadConfig,
    BadInput,
    Champion,
    ChampionRecords,
    now,
)
from tasks.environment import Environment
from tasks.registry_history import is_registered, mark_champion
from tasks.registry_owner import owner_of
from tasks.serving.champion_log import note_champion
from tasks.serving.deployment import alone
from tasks.serving.files import POINTER
from tasks.serving.switch import settle
from tasks.tracking import mlflow_client, patiently

log = logging.getLogger("tasks")

Record = Literal["registry", "served", "none"]


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What a person decided.

    Attributes
    ----------
    record : {"registry", "served", "none"}
        The record that is wrong; ``none``: no version is champion any more.
    version : str
        The version meant, where the other records do not say; empty: they do.
    user, reason : str
        Who decided it, and why.
    pipeline : str
        Pipeline that the model belongs to from now on; empty: as before.
    """

    record: Record
    version: str
    user: str
    reason: str
    pipeline: str = ""


def correct_champion(environment: Environment, model: str, correction: Correction) -> None:
    """Put one record right, by what the others say or by the version that is given.

    A deployment that was killed half way is over with it: its way back would undo the decision.

    Raises
    ------
    StageError
        There is nothing to go by, the files are not those of the digest, or a deployment is under
        way.
    """
    pointer = environment.serving_root / model / POINTER
    if correction.record == NOBODY and environment.served and os.path.lexists(pointer):
        raise BadConfig(
            f"{model}: this machine has {pointer}: leave out --served, or take the model out of "
            "service here first (docs/serving.md)"
        )
    with _undisturbed(environment, model):
        champion = _correct(environment, model, correction)
    log.info("%s: %s, says %s: %s", model, champion or NOBODY, correction.user, correction.reason)
    show_champion(environment, model)


@contextmanager
def _undisturbed(environment: Environment, model: str) -> Iterator[None]:
    """Keep deployments on this machine out."""
    if environment.served:
        yield
        return
    check_seen(environment, model)
    folder = environment.serving_root / model
    if not folder.is_dir() and not is_registered(environment, model):
        # a folder made for a misspelt name would let it pass for a model that is served here
        raise BadInput(
            f"{model}: neither the registry nor {environment.serving_root} has such a model; check "
            "--model"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        yield
        settle(folder)


def _correct(environment: Environment, model: str, correction: Correction) -> Champion | None:
    records, torn = read_records(environment, model)
    if torn and correction.record != "served":
        raise torn
    owner, version = (
        correction.pipeline or owner_of(environment, model).pipeline,
        correction.version,
    )
    champion: Champion | None = None
    if correction.record == "registry":
        champion = move_alias(environment, records, version=version, owner=owner)
    elif correction.record == "served":
        champion = move_pointer(environment, records, version=version)
    else:
        _forget(environment, records)
    _note(environment, model, champion, correction, owner=owner)
    return champion


def _forget(environment: Environment, records: ChampionRecords) -> None:
    """Let no version be champion, and none have been."""
    model = records.model
    if records.served is not None:
        raise BadInput(
            f"{model}: {records.served} serves: take it out of service first (docs/serving.md)"
        )
    if records.has_registry and (records.registry or records.once or records.guessed) is not None:
        with mlflow_client(environment) as client:
            if records.registry is not None:
                patiently(lambda: client.delete_registered_model_alias(model, CHAMPION))
            mark_champion(client, model, None)


def _note(
    environment: Environment,
    model: str,
    champion: Champion | None,
    correction: Correction,
    *,
    owner: str,
) -> None:
    if not environment.served:
        note_champion(
            environment.serving_root / model,
            champion,
            by=correction.user,
            reason=correction.reason,
            put_right=correction.record,
            **({"pipeline": owner} if owner else {}),
        )
    if not environment.mlflow_uri:
        return
    from mlflow.exceptions import MlflowException

    at = now()
    line = json.dumps(
        {
            "champion": champion and champion._asdict(),
            "by": correction.user,
            "reason": correction.reason,
            "put_right": correction.record,
        }
    )
    with mlflow_client(environment) as client:
        # one tag for each correction, of which there may be two within a second
        moment = at.replace(":", "-").replace("+", ".")
        key = f"champion_put_right.{moment}.{uuid.uuid4().hex[:8]}"
        try:
            patiently(lambda: client.set_registered_model_tag(model, key, line))
        except MlflowException as error:
            if champion is not None or error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            # the registry knows no such model, so it has nothing to remember
    if champion is not None:
        tags = {"set_by": correction.user, "set_reason": correction.reason, "set_at": at}
        tags = {f"champion_{key}": text for key, text in tags.items()}
        if correction.pipeline:
            tags[PIPELINE_TAG] = correction.pipeline
        registry.tag(environment, model, champion.version, tags)
