"""Registered models: versions with digest and verdict, and the aliases that decide who serves.

A version holds the very files that were evaluated: its SavedModel's tree digest is tagged, checked
after registering, and one digest is registered once however often it is asked for.
"""

import atexit
import logging
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tasks.code_version import installed_version
from tasks.contract import (
    CHAMPION,
    LAST_CHAMPION,
    NOBODY,
    Altered,
    Champion,
    StageError,
    says_absent,
    tree_sha256,
)
from tasks.environment import Environment
from tasks.registry_history import mark_champion
from tasks.tracking import mlflow_client, patiently

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

log = logging.getLogger("tasks")

CHALLENGER = "challenger"
"""Alias of the version that was judged last."""

_PYFUNC_SOURCE = Path(__file__).parent / "serving" / "pyfunc_model.py"
_REQUIREMENTS = ("mlflow", "pandas", "tensorflow")


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A registered version.

    Attributes
    ----------
    name, version : str
        Registered model and its version.
    digest : str
        Tree digest of its SavedModel, as tagged.
    model_dir : Path
        Its SavedModel folder on this machine.
    run_id : str
        MLflow run that registered it.
    tags : dict of str to str
        Tags of the version.
    """

    name: str
    version: str
    digest: str
    model_dir: Path
    run_id: str
    tags: dict[str, str]

    @property
    def is_intact(self) -> bool:
        """Whether its files are those that were registered."""
        return tree_sha256(self.model_dir) == self.digest


def champion(environment: Environment, model_name: str) -> RegisteredModel | None:
    """Return the version with the alias ``champion``, its files on this machine.

    Parameters
    ----------
    environment : Environment
        Without an ``mlflow_uri`` there is no registry, and no champion.
    model_name : str
        Registered model.

    Returns
    -------
    RegisteredModel or None
        None when nothing has earned the alias yet.

    Raises
    ------
    StageError
        MLflow cannot be reached, or the champion's files are gone.
    """
    version = _by_alias(environment, model_name, CHAMPION)
    return None if version is None else _with_files(environment, version)


def champion_identity(environment: Environment, model_name: str) -> Champion | None:
    """Return version and digest of the champion without fetching its files; the digest is empty
    for a version that somebody registered by hand.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    version = _by_alias(environment, model_name, CHAMPION)
    if version is None:
        return None
    return Champion(str(version.version), version.tags.get("digest", ""))


def version_with_files(environment: Environment, model_name: str, version: str) -> RegisteredModel:
    """Return a version, its files on this machine.

    Raises
    ------
    StageError
        MLflow cannot be reached, there is no such version, or its files are gone.
    """
    with mlflow_client(environment) as client:
        found = patiently(lambda: client.get_model_version(model_name, version))
    return _with_files(environment, found)


def find_by_digest(environment: Environment, model_name: str, digest: str) -> str | None:
    """Return the oldest version registered for a digest, None when there is none.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    with mlflow_client(environment) as client:
        return _oldest(client, model_name, digest)


def tags_by_digest(environment: Environment, model_name: str, digest: str) -> list[dict[str, str]]:
    """Return the tags of every version registered for a digest, of the oldest version first.

    There is more than one where two runs registered at once under an earlier release.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    with mlflow_client(environment) as client:
        return [dict(each.tags) for each in _with_digest(client, model_name, digest)]


def register(
    environment: Environment,
    *,
    model_name: str,
    model_dir: Path,
    digest: str,
    run_id: str,
    example: Callable[[], bytes],
    tags: dict[str, str],
) -> str:
    """Register a SavedModel under a name, once per digest.

    Parameters
    ----------
    environment : Environment
        Where the registry is.
    model_name : str
        Registered model; made if it does not exist.
    model_dir : Path
        SavedModel folder.
    digest : str
        Its tree digest.
    run_id : str
        MLflow run it belongs to.
    example : callable
        Returns an encoded image, the input example; called only if the digest is new.
    tags : dict of str to str
        Tags of the version; ``digest`` is added.

    Returns
    -------
    str
        The version; an existing one when the digest is registered already.

    Raises
    ------
    Altered
        The files are not those of the digest, before or after.
    StageError
        MLflow cannot be reached.
    """
    if tree_sha256(model_dir) != digest:
        raise Altered(
            f"{model_dir}: has changed since it was trained: digest is not {digest[:12]}; run "
            "stage 'train' again with --force, and the stages after it"
        )
    with mlflow_client(environment) as client:
        version = _oldest(client, model_name, digest)
        if version is None:
            _ensure_model(client, model_name)
            model_id, source = _log_model(
                client, model_name, model_dir, digest=digest, run_id=run_id, example=example()
            )
            created = client.create_model_version(
                model_name,
                source,
                run_id,
                # in the creating call itself: a retry after a kill finds the version by its digest
                tags={**tags, "digest": digest},
                model_id=model_id,
            )
            # another run may have registered the same files meanwhile: both go on with the oldest
            version = _oldest(client, model_name, digest) or str(created.version)
            if version == str(created.version):
                log.info("registered %s version %s", model_name, version)
            else:
                log.warning(
                    "%s version %s has the files of version %s, which another run registered at "
                    "the same time and which is used",
                    *(model_name, created.version, version),
                )
        stored = _with_files(environment, client.get_model_version(model_name, version))
    if tree_sha256(stored.model_dir) != digest:
        raise Altered(
            f"registered model {model_name} version {version}: its files at {stored.model_dir} are "
            f"not those that were evaluated (digest {digest[:12]}); restore them, or delete the "
            "version and run stage 'bless' again"
        )
    return version


def set_alias(environment: Environment, model_name: str, alias: str, version: str) -> None:
    """Point an alias at a version, in one step.

    Raises
    ------
    StageError
        MLflow cannot be reached, or there is no such version.
    """
    with mlflow_client(environment) as client:
        if alias != CHAMPION:
            patiently(lambda: client.set_registered_model_alias(model_name, alias, version))
            return
        before = champion_identity(environment, model_name)
        found = patiently(lambda: client.get_model_version(model_name, version))
        # before the alias: a kill between the two must not leave a champion that nobody noted
        mark_champion(client, model_name, Champion(version, found.tags.get("digest", "")))
        try:
            patiently(lambda: client.set_registered_model_alias(model_name, alias, version))
        except Exception:
            if before is not None:
                with suppress(Exception):
                    mark_champion(client, model_name, before)
            raise


def tag(environment: Environment, model_name: str, version: str, tags: dict[str, str]) -> None:
    """Set tags of a version.

    Raises
    ------
    StageError
        MLflow cannot be reached, or there is no such version.
    """
    with mlflow_client(environment) as client:
        for key, value in tags.items():
            patiently(
                lambda key=key, value=value: client.set_model_version_tag(  # type: ignore[misc]
                    model_name, version, key, value
                )
            )


def tags_of(environment: Environment, model_name: str, version: str) -> dict[str, str]:
    """Return the tags of a version.

    Raises
    ------
    StageError
        MLflow cannot be reached, or there is no such version.
    """
    with mlflow_client(environment) as client:
        return dict(patiently(lambda: client.get_model_version(model_name, version)).tags)


def _by_alias(environment: Environment, model_name: str, alias: str) -> "ModelVersion | None":
    if not environment.mlflow_uri:
        return None
    from mlflow.exceptions import MlflowException

    with mlflow_client(environment) as client:
        try:
            return patiently(lambda: client.get_model_version_by_alias(model_name, alias))
        except MlflowException as error:
            if says_absent(error.error_code, str(error)):
                return None
            raise


def _with_digest(client: "MlflowClient", model_name: str, digest: str) -> "list[ModelVersion]":
    found = patiently(
        lambda: client.search_model_versions(
            f"name = '{model_name}' and tags.digest = '{digest}'", max_results=100
        )
    )
    return sorted(found, key=lambda each: int(each.version))


def _oldest(client: "MlflowClient", model_name: str, digest: str) -> str | None:
    found = _with_digest(client, model_name, digest)
    return str(found[0].version) if found else None


def _ensure_model(client: "MlflowClient", model_name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model_name, tags={LAST_CHAMPION: NOBODY})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _log_model(
    client: "MlflowClient",
    model_name: str,
    model_dir: Path,
    *,
    digest: str,
    run_id: str,
    example: bytes,
) -> tuple[str, str]:
    """Log the model into its run; return its id and where its files are."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    experiment_id = client.get_run(run_id).info.experiment_id
    for left in client.search_logged_models([experiment_id], f"tags.digest = '{digest}'"):
        if left.source_run_id == run_id and left.status != LoggedModelStatus.READY:
            # a killed attempt's of this run; another run's may be under way
            client.delete_logged_model(left.model_id)
    logged = client.create_logged_model(
        experiment_id, name=model_name, source_run_id=run_id, tags={"digest": digest}
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        mlflow.pyfunc.save_model(
            folder,
            mlflow_model=Model(
                artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id
            ),
            python_model=str(_PYFUNC_SOURCE),
            artifacts={"saved_model": str(model_dir)},
            signature=ModelSignature(
                # without a name, so that bytes and lists of bytes are taken as well as frames
                inputs=Schema([ColSpec("binary")]),
                outputs=Schema([ColSpec("string", "class_name"), ColSpec("double", "probability")]),
            ),
            input_example=pd.DataFrame({"image_bytes": [example]}),
            # without a list MLflow spends half a minute to find one out
            pip_requirements=[f"{name}=={installed_version(name)}" for name in _REQUIREMENTS],
        )
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id), str(logged.artifact_location)


def _with_files(environment: Environment, version: "ModelVersion") -> RegisteredModel:
    return RegisteredModel(
        name=version.name,
        version=str(version.version),
        digest=version.tags.get("digest", ""),
        model_dir=_model_dir(environment, version),
        run_id=version.run_id or "",
        tags=dict(version.tags),
    )


def _model_dir(environment: Environment, version: "ModelVersion") -> Path:
    with mlflow_client(environment) as client:
        source = client.get_model_version_download_uri(version.name, str(version.version))
        parts = urlsplit(source)
        if parts.scheme in ("", "file"):
            folder = Path(unquote(parts.path)) / "artifacts"
        else:
            from mlflow.artifacts import download_artifacts

            scratch = tempfile.mkdtemp(prefix="registered-model-")
            # the files are read as long as the process lives, and nobody's afterwards
            atexit.register(shutil.rmtree, scratch, ignore_errors=True)
            folder = Path(
                download_artifacts(
                    artifact_uri=f"{source.rstrip('/')}/artifacts",
                    tracking_uri=environment.mlflow_uri,
                    dst_path=scratch,
                )
            )
    models = [each.parent for each in folder.glob("*/saved_model.pb")]
    if len(models) != 1:
        raise StageError(
            f"registered model {version.name} version {version.version}: no SavedModel below "
            f"{folder}; restore its files or delete the version"
        )
    return models[0]
