"""Every setting of the Airflow side, read in one place.

Section ``[trusted_retraining]`` of ``airflow.cfg``; the environment variable
``AIRFLOW__TRUSTED_RETRAINING__<NAME>`` goes before it, as for Airflow's own settings.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from airflow.sdk.configuration import conf

SECTION = "trusted_retraining"

Runtime = Literal["local"]
RUNTIMES: tuple[Runtime, ...] = ("local",)


class SettingError(ValueError):
    """A setting is wrong; the text names it, its value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this installation has decided.

    Attributes
    ----------
    runtime : {"local"}
        Where stages run: ``local`` is a child process of the Airflow worker.
    state : Path
        Folder of everything that is kept on this machine.
    pipelines : Path
        Folder of the pipeline files.
    storage_root : str
        fsspec URI or path under which the runs are kept.
    stage_python : str
        Interpreter that runs the stages in the ``local`` runtime.
    mlflow_uri : str
        MLflow tracking address that stages log to; empty turns logging off.
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
    tasks_image, serving_image : str
        Container images of the stages and of the model server.
    """

    runtime: Runtime
    state: Path
    pipelines: Path
    storage_root: str
    stage_python: str
    mlflow_uri: str
    mlflow_artifacts: str
    mlflow_ui: str
    serving_root: str
    serving_python: str
    server_url: str
    tasks_image: str
    serving_image: str

    @classmethod
    def read(cls) -> "Settings":
        """Read the section, environment variables first.

        Raises
        ------
        SettingError
            The runtime is not one that this version knows.
        """
        state = Path(_get("state", ".local")).absolute()
        return cls(
            runtime=_runtime(_get("runtime", "local")),
            state=state,
            pipelines=Path(_get("pipelines", f"{_dags_folder()}/pipelines")).absolute(),
            storage_root=_get("storage_root", f"{state}/runs"),
            stage_python=_get("stage_python", sys.executable),
            mlflow_uri=_get("mlflow_uri", f"sqlite:///{state}/mlflow/mlflow.db"),
            mlflow_artifacts=_get("mlflow_artifacts", f"{state}/mlflow/artifacts"),
            mlflow_ui=_get("mlflow_ui", "http://127.0.0.1:5000").rstrip("/"),
            serving_root=_get("serving_root", f"{state}/served"),
            serving_python=_get("serving_python", f"{state}/serving-venv/bin/python"),
            server_url=_get("server_url", "").rstrip("/"),
            tasks_image=_get("tasks_image", "trusted-retraining/tasks:latest"),
            serving_image=_get("serving_image", "trusted-retraining/serving:latest"),
        )

    def stage_environment(self) -> dict[str, str]:
        """Return the variables from which a stage reads where it runs (``tasks.environment``)."""
        return {
            "TRUSTED_RETRAINING_STATE": str(self.state),
            "TRUSTED_RETRAINING_MLFLOW_ARTIFACTS": self.mlflow_artifacts,
            "TRUSTED_RETRAINING_SERVING_ROOT": self.serving_root,
            "TRUSTED_RETRAINING_SERVING_PYTHON": self.serving_python,
            "TRUSTED_RETRAINING_SERVER_URL": self.server_url,
            "MLFLOW_TRACKING_URI": self.mlflow_uri,
        }


def _get(name: str, default: str) -> str:
    # an option left empty in the file stands for its default
    return str(conf.get(SECTION, name, fallback=None) or default)


def _dags_folder() -> str:
    return str(conf.get("core", "dags_folder", fallback="dags"))


def _runtime(value: str) -> Runtime:
    if value not in RUNTIMES:
        raise SettingError(
            f"[{SECTION}] runtime: {value!r} is not one of {', '.join(RUNTIMES)}; set it in "
            f"airflow.cfg or AIRFLOW__{SECTION.upper()}__RUNTIME"
        )
    return value
