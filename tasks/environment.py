"""Settings that reach a stage from outside the pipeline file, read from the environment.

The Airflow side sets them from its ``[trusted_retraining]`` section; a stage run by hand falls back
on the defaults.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a stage must know about the place where it runs.

    Attributes
    ----------
    mlflow_uri : str
        MLflow tracking address; empty leaves tracking and registry out of a stage run by hand.
    serving_root : Path
        Folder of the served models on this machine, ``<root>/<model>/<version>/``.
    serving_python : Path
        Interpreter of the serving environment.
    server_url : str
        Address of a model server that runs already and is to switch; empty when there is none.
    code_revision : str
        Source revision for the lineage; empty when unknown.
    state_dir : Path
        Folder of this machine's state; holds ``last-run.json``.
    mlflow_artifacts : str
        Where new MLflow experiments keep their files; empty leaves it to the tracking server, or
        puts them beside an SQLite store.
    deploy_changed_rules : bool
        Whether a run that changed the rules may deploy what passed them.
    allowed_addresses : tuple of str or None
        Prefixes below which a run may be pointed, and a download be sent on; None, by hand: any.
    scratch : Path or None
        Folder for what is on its way to or from a remote store; the system's folder for temporary
        files when None.
    served : str
        What serves, as ``VERSION:DIGEST`` or ``none``, where the stage cannot see it: on a cluster.
        Empty leaves it to the pointer below ``serving_root``.
    serves_here : bool
        Whether ``serving_root`` was named, so that it is known to be where the models are served.
    """

    mlflow_uri: str
    serving_root: Path
    serving_python: Path
    server_url: str
    code_revision: str
    state_dir: Path = Path(".local")
    mlflow_artifacts: str = ""
    scratch: Path | None = None
    deploy_changed_rules: bool = False
    allowed_addresses: tuple[str, ...] | None = None
    served: str = ""
    serves_here: bool = True

    def with_own_registry(self) -> "Environment":
        """Return the environment with this machine's own MLflow store where no other is named, so
        that a person at the shell asks the registry that the runs of ``make`` write to."""
        store = self.state_dir / "mlflow/mlflow.db"
        if self.mlflow_uri or not store.is_file():
            return self
        return replace(self, mlflow_uri=f"sqlite:///{store}")

    @classmethod
    def read(cls) -> "Environment":
        """Read ``TRUSTED_RETRAINING_*`` and ``MLFLOW_TRACKING_URI``."""
        value = os.environ.get
        state = Path(value("TRUSTED_RETRAINING_STATE", ".local")).absolute()
        scratch = value("TRUSTED_RETRAINING_SCRATCH")
        return cls(
            mlflow_uri=value("MLFLOW_TRACKING_URI", ""),
            serving_root=Path(value("TRUSTED_RETRAINING_SERVING_ROOT", state / "served")),
            serving_python=Path(
                value("TRUSTED_RETRAINING_SERVING_PYTHON", state / "serving-venv/bin/python")
            ),
            server_url=value("TRUSTED_RETRAINING_SERVER_URL", ""),
            code_revision=value("TRUSTED_RETRAINING_CODE_REVISION", ""),
            state_dir=state,
            mlflow_artifacts=value("TRUSTED_RETRAINING_MLFLOW_ARTIFACTS", ""),
            scratch=Path(scratch) if scratch else None,
            deploy_changed_rules=value("TRUSTED_RETRAINING_DEPLOY_CHANGED_RULES") == "true",
            allowed_addresses=allowed_addresses(),
            served=value("TRUSTED_RETRAINING_SERVED", ""),
            serves_here=bool(value("TRUSTED_RETRAINING_SERVING_ROOT")),
        )


def allowed_addresses() -> tuple[str, ...] | None:
    """Return the prefixes below which addresses may lie; None when nobody has said."""
    text = os.environ.get("TRUSTED_RETRAINING_ALLOWED_ADDRESSES")
    return (
        None
        if text is None
        else tuple(each for each in text.split(",") if each not in ("", "none"))
    )
