"""Keeps with a registered version what it was trained on: beside its files, not among them, so that
its digest stays the model's."""

import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.environment import Environment
from tasks.tracking import mlflow_client, patiently

TAG = "trained_on"
"""Tag of a version: digest of the record that lies with it."""


def keep_trained_on(
    environment: Environment, model_name: str, version: str, *, record: Path, digest: str
) -> None:
    """Put a record beside a version's files, unless one is there already.

    Parameters
    ----------
    environment : Environment
        Where the registry is.
    model_name, version : str
        The version.
    record : Path
        The file.
    digest : str
        Of what the file says.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    with mlflow_client(environment) as client:
        found = patiently(lambda: client.get_model_version(model_name, version))
        if TAG in found.tags:
            return
        experiment = client.get_run(found.run_id).info.experiment_id
        for logged in client.search_logged_models(
            [experiment], f"tags.digest = '{found.tags.get('digest', '')}'"
        ):
            if logged.artifact_location == found.source:
                client.log_model_artifact(logged.model_id, str(record))
                break
        else:
            # registered by hand: there is no place for it
            return
        # last: a tag promises that the file is there
        patiently(lambda: client.set_model_version_tag(model_name, version, TAG, digest))


def version_tags(environment: Environment, model_name: str, version: str) -> dict[str, str]:
    """Return the tags of a version, empty when there is none of that name.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    with mlflow_client(environment) as client:
        try:
            return dict(patiently(lambda: client.get_model_version(model_name, version)).tags)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return {}
            raise


def fetch_trained_on(environment: Environment, model_name: str, version: str, name: str) -> Path:
    """Return a local copy of the record that lies with a version.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    OSError
        The file is gone.
    """
    with mlflow_client(environment) as client:
        source = client.get_model_version_download_uri(model_name, version).rstrip("/")
        parts = urlsplit(source)
        if parts.scheme in ("", "file"):
            return Path(unquote(parts.path)) / name
        from mlflow.artifacts import download_artifacts

        return Path(
            download_artifacts(
                artifact_uri=f"{source}/{name}",
                tracking_uri=environment.mlflow_uri,
                dst_path=tempfile.mkdtemp(prefix="trained-on-", dir=environment.scratch),
            )
        )
