"""Places where a stage of a test runs."""

from pathlib import Path
from typing import Any

from tasks.environment import Environment


def environment_at(root: Path, **changes: Any) -> Environment:
    """Return the environment of a machine that serves below a folder and has no MLflow.

    Parameters
    ----------
    root : Path
        Folder of the machine; nothing has to be there.
    **changes : Any
        Fields that are otherwise.
    """
    fields: dict[str, Any] = {
        "mlflow_uri": "",
        "serving_root": root / "served",
        "serving_python": root / "absent",
        "server_url": "",
        "code_revision": "",
    }
    return Environment(**fields | changes)
