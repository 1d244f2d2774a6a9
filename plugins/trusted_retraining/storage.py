"""The Airflow side's way to the runs: storage options from a connection of the amazon provider."""

from functools import lru_cache
from typing import Any

from tasks.contract import RunDirectory, run_uri
from trusted_retraining.settings import Settings

S3 = ("s3://", "s3a://")


def run_directory(settings: Settings, pipeline: str, run_id: str) -> RunDirectory:
    """Return the folder of a DAG run, wherever the runs are kept.

    Parameters
    ----------
    settings : Settings
        Storage root, and the connection that leads there.
    pipeline : str
        Pipeline name, which is also the DAG's.
    run_id : str
        Airflow's run id.
    """
    uri = run_uri(settings.storage_root, pipeline, run_id)
    return RunDirectory(uri, storage_options(settings))


def storage_options(settings: Settings) -> dict[str, Any] | None:
    """Return the arguments of the storage root's file system; None where it needs none.

    Credentials and endpoint come from the connection ``storage_conn_id``, as for every operator of
    the amazon provider. An installation without that connection leaves it to the AWS libraries:
    variables, web identity, instance role.

    Parameters
    ----------
    settings : Settings
        Storage root, and the connection that leads there.
    """
    if not settings.storage_root.startswith(S3):
        return None
    return s3_options(settings.storage_conn_id)


def storage_variables(settings: Settings) -> dict[str, str]:
    """Return the AWS variables with which a stage on this machine reaches the storage root.

    Only for the ``local`` runtime, whose stages are child processes: a pod gets its credentials
    from a secret or a role.

    Parameters
    ----------
    settings : Settings
        Storage root, and the connection that leads there.
    """
    if not settings.storage_root.startswith(S3):
        return {}
    hook = _hook(settings.storage_conn_id)
    found = {
        "AWS_ENDPOINT_URL_S3": hook.conn_config.get_service_endpoint_url(service_name="s3"),
        "AWS_REGION": hook.region_name,
    }
    credentials = hook.get_session().get_credentials()
    if credentials is not None:
        frozen = credentials.get_frozen_credentials()
        found |= {
            "AWS_ACCESS_KEY_ID": frozen.access_key,
            "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
            "AWS_SESSION_TOKEN": frozen.token,
        }
    return {name: value for name, value in found.items() if value}


@lru_cache(maxsize=8)
def s3_options(conn_id: str) -> dict[str, Any]:
    """Return the arguments of an S3 file system that a connection stands for.

    Parameters
    ----------
    conn_id : str
        Connection of the amazon provider.
    """
    hook = _hook(conn_id)
    endpoint = hook.conn_config.get_service_endpoint_url(service_name="s3")
    client: dict[str, Any] = {"verify": hook.verify} if hook.verify is not None else {}
    if hook.region_name:
        client["region_name"] = hook.region_name
    options: dict[str, Any] = {
        # of aiobotocore: it renews the credentials of an assumed role by itself
        "session": hook.get_session(deferrable=True),
        "client_kwargs": client,
        "config_kwargs": dict(hook.conn_config.extra_config.get("config_kwargs", {})),
    }
    return options | ({"endpoint_url": endpoint} if endpoint else {})


def _hook(conn_id: str) -> Any:
    # imported late: the provider takes a second, which the parse of a DAG need not wait for
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(aws_conn_id=conn_id)
