"""An Airflow home of the tests' own, in force before anything imports Airflow."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from trusted_retraining.local import home


def enter() -> None:
    """Enter the home of this process; the first to ask for it makes it, and it ends with it."""
    state = os.environ.get("TEST_AIRFLOW_STATE")
    if state is None:
        state = os.environ["TEST_AIRFLOW_STATE"] = tempfile.mkdtemp(prefix="airflow-")
        atexit.register(_remove, state, os.getpid())
    home.enter(Path(state))


def _remove(state: str, owner: int) -> None:
    # a fork of this process ends here, too
    if os.getpid() == owner:
        shutil.rmtree(state, ignore_errors=True)
