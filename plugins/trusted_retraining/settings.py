"""Every setting of the Airflow side, read in one place.

Section ``[trusted_retraining]`` of ``airflow.cfg``; the environment variable
``AIRFLOW__TRUSTED_RETRAINING__<NAME>`` goes before it, as for Airflow's own settings.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from airflow.sdk.configuration import conf

from tasks.contract import RELEASE_VARIABLE, release
from tasks.spec import Pipeline
from tasks.spec.addresses import is_below
from tasks.spec.masking import masked, secret_in
from trusted_retraining.cluster_settings import ClusterSettings, SettingError, switch, unless_none
from trusted_retraining.serving_settings import ServingSettings

__all__ = [
    "RUNTIMES",
    "SECTION",
    "ClusterSettings",
    "Runtime",
    "ServingSettings",
    "SettingError",
    "Settings",
]

SECTION = "trusted_retraining"

Runtime = Literal["local", "kubernetes", "eks"]
DATABASES = ("sqlite:", "postgresql", "mysql", "mssql")
"""How MLflow's address begins where it is a database and no server."""

RUNTIMES: tuple[Runtime, ...] = ("local", "kubernetes", "eks")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this installation has decided.

    Attributes
    ----------
    runtime : {"local", "kubernetes", "eks"}
        Where stages run, unless the pipeline file says otherwise: child processes of the Airflow
        worker, pods of a cluster, or pods of an EKS cluster.
    state : Path
        Folder of everything that is kept on this machine.
    pipelines : Path
        Folder of the pipeline files.
    storage_root : str
        fsspec URI or path under which the runs are kept.
    storage_conn_id : str
        Airflow connection with credentials and endpoint of a storage on ``s3://``.
    stage_python : str
        Interpreter that runs the stages in the ``local`` runtime.
    mlflow_uri : str
        MLflow tracking address that stages log to; empty (``none`` in the section) turns logging
        and registry off.
    mlflow_artifacts : str
        URI under which a store without a server keeps its artifacts.
    mlflow_ui : str
        Address of the MLflow UI as a browser reaches it, for links.
    serving_root : str
        Folder of the served models in the ``local`` runtime.
    serving_python : str
        Interpreter of the serving environment.
    server_url : str
        Address of a model server that runs already and is to switch; empty when there is none.
    allowed_addresses : tuple of str
        Prefixes of the addresses that a run may be pointed at besides those of its pipeline file.
    deploy_changed_rules : bool
        Whether a run that changed the rules may deploy what passed them.
    tasks_image, serving_image : str
        Container images of the stages and of the model server.
    cluster : ClusterSettings
        The cluster on which stages are pods.
    serving : ServingSettings
        Where on it models are served.
    """

    runtime: Runtime
    state: Path
    pipelines: Path
    storage_root: str
    storage_conn_id: str
    stage_python: str
    mlflow_uri: str
    mlflow_artifacts: str
    mlflow_ui: str
    serving_root: str
    serving_python: str
    server_url: str
    allowed_addresses: tuple[str, ...]
    deploy_changed_rules: bool
    tasks_image: str
    serving_image: str
    cluster: ClusterSettings
    serving: ServingSettings

    @classmethod
    def read(cls) -> "Settings":
        """Read the section, environment variables first.

        Raises
        ------
        SettingError
            A setting has a value that is not allowed.
        """
        state = Path(_get("state", ".local")).absolute()
        return cls(
            runtime=_runtime(_get("runtime", "local")),
            state=state,
            pipelines=Path(_get("pipelines", f"{_dags_folder()}/pipelines")).absolute(),
            storage_root=_get("storage_root", f"{state}/runs").rstrip("/"),
            storage_conn_id=_get("storage_conn_id", "aws_default"),
            stage_python=_get("stage_python", sys.executable),
            mlflow_uri=unless_none(_get("mlflow_uri", f"sqlite:///{state}/mlflow/mlflow.db")),
            mlflow_artifacts=_get("mlflow_artifacts", f"{state}/mlflow/artifacts"),
            mlflow_ui=_get("mlflow_ui", "http://127.0.0.1:5000").rstrip("/"),
            serving_root=_get("serving_root", f"{state}/served"),
            serving_python=_get("serving_python", f"{state}/serving-venv/bin/python"),
            server_url=_get("server_url", "").rstrip("/"),
            allowed_addresses=_addresses(_get("allowed_addresses", "")),
            deploy_changed_rules=switch(_get, "deploy_changed_rules"),
            tasks_image=_get("tasks_image", "trusted-retraining/tasks:latest"),
            serving_image=_get("serving_image", "trusted-retraining/serving:latest"),
            cluster=ClusterSettings.read(_get),
            serving=ServingSettings.read(_get),
        )

    def runtime_of(self, pipeline: Pipeline) -> Runtime:
        """Return where a pipeline's stages run: as its file says, or as this installation does.

        Raises
        ------
        SettingError
            They are pods, and something is set so that pods cannot work with it.
        """
        self._check_for_secrets()
        runtime: Runtime = pipeline.runtime or self.runtime
        if runtime != "local":
            self._check_for_pods(runtime)
        return runtime

    def addresses_of(self, pipeline: Pipeline) -> tuple[str, ...]:
        """Return the prefixes below which a run of a pipeline may be pointed."""
        # on one machine its files are open to whoever may trigger
        here = ("/",) if self.runtime_of(pipeline) == "local" else ()
        return (*self.allowed_addresses, *here)

    def stage_environment(self) -> dict[str, str]:
        """Return the variables from which a stage reads where it runs (``tasks.environment``)."""
        return {
            "TRUSTED_RETRAINING_STATE": str(self.state),
            "TRUSTED_RETRAINING_MLFLOW_ARTIFACTS": self.mlflow_artifacts,
            "TRUSTED_RETRAINING_SERVING_ROOT": self.serving_root,
            "TRUSTED_RETRAINING_SERVING_PYTHON": self.serving_python,
            "TRUSTED_RETRAINING_SERVER_URL": self.server_url,
            "TRUSTED_RETRAINING_ALLOWED_ADDRESSES": ",".join((*self.allowed_addresses, "/")),
            "TRUSTED_RETRAINING_DEPLOY_CHANGED_RULES": str(self.deploy_changed_rules).lower(),
            "MLFLOW_TRACKING_URI": self.mlflow_uri,
            # what serves is told by argument alone, never by what a worker was started with
            "TRUSTED_RETRAINING_SERVED": "",
            RELEASE_VARIABLE: release(),
        }

    def _check_for_secrets(self) -> None:
        for name in (
            "storage_root",
            "mlflow_uri",
            "mlflow_artifacts",
            "mlflow_ui",
            "serving_root",
            "server_url",
        ):
            value = getattr(self, name)
            # a database's driver has no other way that all of them know
            database = name == "mlflow_uri" and value.startswith(DATABASES)
            if not database and (what := secret_in(value)) is not None:
                raise SettingError(
                    name,
                    masked(value),
                    f"holds {what}, and it is logged, stored and handed to pods: put it into a "
                    "secret (storage_secret, mlflow_secret), on one machine into the connection "
                    "storage_conn_id, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
                )

    def _check_for_pods(self, runtime: Runtime) -> None:
        if runtime == "eks" and not self.cluster.eks_cluster_name:
            raise SettingError("eks_cluster_name", "", "must name the cluster of runtime eks")
        if not _get("storage_root", ""):
            raise SettingError(
                "storage_root",
                self.storage_root,
                "is a folder of this machine, which pods do not see: give an address such as "
                "s3://bucket/prefix",
            )
        if self.mlflow_uri.startswith(DATABASES):
            raise SettingError(
                "mlflow_uri",
                masked(self.mlflow_uri),
                "is a database; stages in pods take the address of an MLflow server, such as "
                "http://mlflow:5000",
            )


def _get(name: str, default: str) -> str:
    # an option left empty in the file stands for its default
    return str(conf.get(SECTION, name, fallback=None) or default)


def _dags_folder() -> str:
    return str(conf.get("core", "dags_folder", fallback="dags"))


def _addresses(text: str) -> tuple[str, ...]:
    """Return prefixes given by comma.

    Raises
    ------
    SettingError
        One of them is no address.
    """
    prefixes = tuple(each.strip() for each in text.split(",") if each.strip())
    for prefix in prefixes:
        if not is_below(prefix, [prefix]):
            raise SettingError(
                "allowed_addresses",
                prefix,
                "is no prefix of addresses, such as s3://bucket/films/, https://host/ or /data",
            )
    return prefixes


def _runtime(value: str) -> Runtime:
    for runtime in RUNTIMES:
        if value == runtime:
            return runtime
    raise SettingError("runtime", value, f"is not one of {', '.join(RUNTIMES)}")
