"""``python -m tasks champion``: the records of who serves side by side, and putting one right.

A person may know better than a record; who it was and why is recorded with the version, with the
registered model, and in ``champions.jsonl`` beside what serves.
"""

import io
import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tasks import registry
from tasks.contract import (
    CHAMPION,
    NOBODY,
    Altered,
    BadConfig,
    BadInput,
    Champion,
    ChampionRecords,
    Disagreement,
    agreed_champion,
    now,
    parse_champion,
    tree_sha256,
)
from tasks.environment import Environment
from tasks.registry_history import mark_champion
from tasks.serving.champion_log import note_champion, noted_champion
from tasks.serving.deployment import alone, put_beside
from tasks.serving.files import POINTER, Pointer, folder_names, read_pointer
from tasks.serving.switch import Switch
from tasks.spec.masking import masked
from tasks.stages.champion_files import served_files
from tasks.stages.who_serves import records_here, records_with, unseen
from tasks.tracking import create_run_by_hand, mlflow_client, patiently

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
    """

    record: Record
    version: str
    user: str
    reason: str


def show_champion(environment: Environment, model: str) -> None:
    """Log the three records, and what follows from them.

    Raises
    ------
    Disagreement
        They contradict each other.
    StageError
        One cannot be read.
    """
    records, torn = _records(environment, model)
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


def correct_champion(environment: Environment, model: str, correction: Correction) -> None:
    """Put one record right, by what the others say or by the version that is given.

    Raises
    ------
    StageError
        There is nothing to go by, or the files are not those of the digest.
    """
    pointer = environment.serving_root / model / POINTER
    if correction.record == NOBODY and environment.served and os.path.lexists(pointer):
        raise BadConfig(
            f"{model}: this machine has {pointer}: leave out --served, or take the model out of "
            "service here first (docs/serving.md)"
        )
    records, torn = _records(environment, model)
    if torn and correction.record != "served":
        raise torn
    champion: Champion | None = None
    if correction.record == "registry":
        champion = _correct_registry(environment, records, correction)
    elif correction.record == "served":
        champion = _correct_served(environment, records, correction)
    else:
        _forget(environment, records)
    _note(environment, model, champion, correction)
    log.info("%s: %s, says %s: %s", model, champion or NOBODY, correction.user, correction.reason)
    show_champion(environment, model)


def _records(environment: Environment, model: str) -> tuple[ChampionRecords, Disagreement | None]:
    """Return the records, and what is wrong with the pointer if it cannot be read."""
    if environment.served:
        served = parse_champion(environment.served)
        return records_with(environment, model, served=served), None
    folder = environment.serving_root / model
    if not environment.serves_here and not folder.is_dir():
        raise unseen(model)
    try:
        return records_here(environment, model), None
    except Disagreement as error:
        try:
            logged = noted_champion(folder)
        except ValueError:
            # no record can be put right while this file is there
            raise error from None
        return records_with(environment, model, served=None, logged=logged), error


def _correct_registry(
    environment: Environment, records: ChampionRecords, correction: Correction
) -> Champion:
    """Move the alias to the version that serves, or that is named."""
    model, served = records.model, records.served
    if not records.has_registry:
        raise BadConfig("MLFLOW_TRACKING_URI is not set, so there is no registry to put right")
    version = correction.version
    if not version and served is not None:
        version = _version_of(environment, model, served) or _register(environment, model, served)
    elif not version:
        version = _only_version(records)
    if not version:
        raise BadInput(f"{model}: no record knows a champion: name one with --version")
    found = _version_with_files(environment, model, version)
    if found.digest and not found.is_intact:
        raise Altered(
            f"{model} version {version}: the files at {found.model_dir} are not those of its tag "
            f"'digest' ({found.digest[:12]}): restore them, or name another --version"
        )
    files = tree_sha256(found.model_dir)
    if served is not None and served.digest != files:
        raise BadInput(
            f"{model} version {version} ({files[:12]}) is not what serves, {served}: name the "
            "version that serves, or use --set served"
        )
    digest = found.digest or files
    registry.tag(environment, model, version, {"digest": digest})
    registry.set_alias(environment, model, CHAMPION, version)
    return Champion(version, digest)


def _only_version(records: ChampionRecords) -> str:
    """Return the version that the records name, empty when there is none."""
    known = [each for each in (records.registry, records.once, records.logged) if each is not None]
    known = known or [each for each in (records.guessed,) if each is not None]
    for each in known[1:]:
        if each.version != known[0].version and not each.is_same_model(known[0]):
            raise BadInput(
                f"{records.model}: the records name {known[0]} and {each}: name the one that is "
                "to be champion with --version"
            )
    return known[0].version if known else ""


def _version_with_files(
    environment: Environment, model: str, version: str
) -> registry.RegisteredModel:
    from mlflow.exceptions import MlflowException

    with mlflow_client(environment) as client:
        try:
            patiently(lambda: client.get_model_version(model, version))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise BadInput(
                f"{model}: the registry holds no version {version!r}: name one that MLflow shows "
                "with --version"
            ) from error
    return registry.version_with_files(environment, model, version)


def _version_of(environment: Environment, model: str, served: Champion) -> str | None:
    """Return the registered version that has the files that serve, tagged or not."""
    if (known := registry.find_by_digest(environment, model, served.digest)) is not None:
        return known
    untagged = registry.champion_identity(environment, model)
    return untagged.version if untagged is not None and not untagged.digest else None


def _register(environment: Environment, model: str, served: Champion) -> str:
    """Register the copy that serves on this machine: the registry has lost its own."""
    folder = None if environment.served else served_files(environment, model, digest=served.digest)
    if folder is None:
        raise BadInput(
            f"{model}: the registry holds no version with the files of {served}: restore MLflow's "
            "database, or clear stage bless of the run that made it, which registers it again"
        )
    return registry.register(
        environment,
        model_name=model,
        model_dir=folder,
        digest=served.digest,
        run_id=create_run_by_hand(
            environment, experiment=model, name="registered from what serves"
        ),
        example=_blank_image,
        tags={},
    )


def _blank_image() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def _correct_served(
    environment: Environment, records: ChampionRecords, correction: Correction
) -> Champion:
    """Point at the registry's champion, or at a version that is on this machine still."""
    model, folder = records.model, environment.serving_root / records.model
    if environment.served:
        raise BadConfig(
            f"{model}: what a cluster serves is changed by a deployment only: clear task deploy of "
            "the run that made the version (docs/serving.md)"
        )
    if records.has_registry:
        if correction.version and correction.version != getattr(records.registry, "version", ""):
            raise BadInput(
                f"{model} version {correction.version} is not the registry's champion: first use "
                "--set registry --version, with what serves taken out of service"
            )
        if records.registry is None:
            raise BadInput(f"{model}: the registry has no champion to serve: use --set registry")
        # the others are overwritten: a person has decided
        agreed_champion(
            replace(records, served=None, once=None, logged=None, guessed=None, never=False)
        )
        found = _version_with_files(environment, model, records.registry.version)
        if not found.is_intact:
            raise Altered(f"{found.model_dir}: the files are not those of {records.registry}")
        source = found.model_dir
        # of an earlier release's version the files have another digest than the model
        champion = Champion(found.version, tree_sha256(source))
    else:
        # the pointer comes second: it is the record that is put right, unless a person names it
        known = [each for each in (records.last, records.served) if each is not None]
        named = [each for each in known if correction.version in ("", each.version)]
        if not named:
            raise BadInput(f"{model}: no record knows that version, so nothing says what it is")
        champion, source = named[0], _on_disk(folder, named[0])
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        path = put_beside(
            folder,
            version=champion.version,
            digest=champion.digest,
            source=source,
            current=read_pointer(folder),
        )
        switch = Switch.prepare(
            folder, Pointer(version=champion.version, digest=champion.digest, path=path)
        )
        switch.take()
        switch.complete()
    if records.has_registry:
        with mlflow_client(environment) as client:
            mark_champion(client, model, records.registry)
    return champion


def _on_disk(folder: Path, champion: Champion) -> Path:
    for name in (next(folder_names(*champion)), champion.version):
        if (folder / name).is_dir() and tree_sha256(folder / name) == champion.digest:
            return folder / name
    raise BadInput(f"{folder}: holds no copy of {champion} any more")


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
    environment: Environment, model: str, champion: Champion | None, correction: Correction
) -> None:
    if not environment.served:
        note_champion(
            environment.serving_root / model,
            champion,
            by=correction.user,
            reason=correction.reason,
            put_right=correction.record,
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
        # one tag for each correction: none is ever overwritten
        key = f"champion_put_right.{at.replace(':', '-').replace('+', '.')}"
        try:
            patiently(lambda: client.set_registered_model_tag(model, key, line))
        except MlflowException as error:
            if champion is not None or error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            # the registry knows no such model, so it has nothing to remember
    if champion is not None:
        tags = {"set_by": correction.user, "set_reason": correction.reason, "set_at": at}
        tags = {f"champion_{key}": text for key, text in tags.items()}
        registry.tag(environment, model, champion.version, tags)
