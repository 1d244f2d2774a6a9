"""Putting the registry right: the alias ``champion`` moves to a version with the right files."""

import io

from tasks import registry
from tasks.contract import (
    CHAMPION,
    PIPELINE_TAG,
    Altered,
    BadConfig,
    BadInput,
    Champion,
    ChampionRecords,
    tree_sha256,
)
from tasks.environment import Environment
from tasks.stages.champion_files import served_files
from tasks.tracking import create_run_by_hand, mlflow_client, patiently


def move_alias(
    environment: Environment, records: ChampionRecords, *, version: str, owner: str
) -> Champion:
    """Move the alias to the version that serves, or that is named; return it.

    Parameters
    ----------
    environment : Environment
        Where the registry is.
    records : ChampionRecords
        As they are.
    version : str
        The version meant; empty where the records say it.
    owner : str
        Pipeline that the model belongs to, for a version that has to be registered again; empty
        when nobody knows.

    Raises
    ------
    StageError
        There is nothing to go by, or the files are not those of the digest.
    """
    model, served = records.model, records.served
    if not records.has_registry:
        raise BadConfig("MLFLOW_TRACKING_URI is not set, so there is no registry to put right")
    if not version and served is not None:
        known = _version_of(environment, model, served)
        version = known or _register(environment, model, served, owner=owner)
    elif not version:
        version = _only_version(records)
    if not version:
        raise BadInput(f"{model}: no record knows a champion: name one with --version")
    found = version_with_files(environment, model, version)
    if found.digest and not found.is_intact:
        raise Altered(
            f"{model} version {version}: the files at {found.model_dir} are not those of its tag "
            f"'digest' ({found.digest[:12]}): restore them, or name another --version"
        )
    champion = Champion(version, found.digest or tree_sha256(found.model_dir))
    if served is not None and not champion.is_same_model(served):
        raise BadInput(
            f"{model} {champion} is not what serves, {served}: name the version that serves, or "
            "use --set served"
        )
    registry.tag(environment, model, version, {"digest": champion.digest})
    registry.set_alias(environment, model, CHAMPION, version)
    return champion


def version_with_files(
    environment: Environment, model: str, version: str
) -> registry.RegisteredModel:
    """Return a version that a person or a record names, its files on this machine.

    Raises
    ------
    StageError
        MLflow cannot be reached, there is no such version, or its files are gone.
    """
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


def _version_of(environment: Environment, model: str, served: Champion) -> str | None:
    """Return the registered version that has the files that serve, tagged or not."""
    if (known := registry.find_by_digest(environment, model, served.digest)) is not None:
        return known
    untagged = registry.champion_identity(environment, model)
    return untagged.version if untagged is not None and not untagged.digest else None


def _register(environment: Environment, model: str, served: Champion, *, owner: str) -> str:
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
        tags={PIPELINE_TAG: owner} if owner else {},
    )


def _blank_image() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()
