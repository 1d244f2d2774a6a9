"""Putting right what serves on this machine: the pointer moves to the registry's champion."""

from pathlib import Path

from tasks.champion_command.alias import version_with_files
from tasks.contract import (
    Altered,
    BadConfig,
    BadInput,
    Champion,
    ChampionRecords,
    agreed_champion,
    tree_sha256,
)
from tasks.environment import Environment
from tasks.registry_history import mark_champion
from tasks.serving.deployment import put_beside
from tasks.serving.files import PREVIOUS, Pointer, folder_names, read_pointer
from tasks.serving.switch import Switch
from tasks.tracking import mlflow_client


def move_pointer(environment: Environment, records: ChampionRecords, *, version: str) -> Champion:
    """Point at the registry's champion, or without a registry at a version that is on this machine
    still; return it. Whoever calls holds the lock of the model's folder.

    Parameters
    ----------
    environment : Environment
        Where the served models are.
    records : ChampionRecords
        As they are.
    version : str
        The version meant; empty where the records say it.

    Raises
    ------
    StageError
        There is nothing to go by, or the files are not those of the digest.
    """
    model, folder = records.model, environment.serving_root / records.model
    if environment.served:
        raise BadConfig(
            f"{model}: what a cluster serves is changed by a deployment only: clear task deploy of "
            "the run that made the version (docs/serving.md)"
        )
    if records.has_registry:
        champion, source = _registered(environment, records, version=version)
    else:
        # the pointer comes second: it is the record that is put right, unless a person names it
        known = [each for each in (records.last, records.served) if each is not None]
        named = [each for each in known if version in ("", each.version)]
        if not named:
            raise BadInput(f"{model}: no record knows that version, so nothing says what it is")
        champion, source = named[0], _on_disk(folder, named[0])
    pointers = [read_pointer(folder), read_pointer(folder, name=PREVIOUS)]
    kept = [each.trained_on for each in pointers if each and each.digest == champion.digest]
    path = put_beside(
        folder,
        version=champion.version,
        digest=champion.digest,
        source=source,
        current=pointers[0],
    )
    pointer = Pointer(
        version=champion.version,
        digest=champion.digest,
        path=path,
        trained_on=next(filter(None, kept), ""),
    )
    switch = Switch.prepare(folder, pointer)
    switch.take()
    switch.complete()
    if records.has_registry:
        with mlflow_client(environment) as client:
            mark_champion(client, model, champion)
    return champion


def _registered(
    environment: Environment, records: ChampionRecords, *, version: str
) -> tuple[Champion, Path]:
    """Return the registry's champion and its files."""
    model, champion = records.model, records.registry
    if version and version != getattr(champion, "version", ""):
        raise BadInput(
            f"{model} version {version} is not the registry's champion: first use --set registry "
            "--version, with what serves taken out of service"
        )
    if champion is None:
        raise BadInput(f"{model}: the registry has no champion to serve: use --set registry")
    # it must have a digest; the other records are overwritten, because a person has decided
    agreed_champion(ChampionRecords(model=model, registry=champion))
    found = version_with_files(environment, model, champion.version)
    if not found.is_intact:
        raise Altered(f"{found.model_dir}: the files are not those of {champion}")
    return champion, found.model_dir


def _on_disk(folder: Path, champion: Champion) -> Path:
    for name in (next(folder_names(*champion)), champion.version):
        if (folder / name).is_dir() and tree_sha256(folder / name) == champion.digest:
            return folder / name
    raise BadInput(f"{folder}: holds no copy of {champion} any more")
