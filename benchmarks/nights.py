"""Small nights for the benchmarks, in a state folder of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SMALL = (
    "source.rows=240",
    "train.epochs=2",
    "explain.images=4",
    "explain.samples=100",
    "robustness.images=16",
    "evaluate.bootstrap=100",
)
"""A night of ``demo`` that is mostly start-up: what is measured is what surrounds the work."""


def environment(state: Path) -> dict[str, str]:
    """Return the variables of a machine whose state is in a folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return clean | {
        "TRUSTED_RETRAINING_STATE": str(state),
        "TRUSTED_RETRAINING_SERVING_PYTHON": f"{REPOSITORY}/.local/serving-venv/bin/python",
        "AIRFLOW__TRUSTED_RETRAINING__SERVING_PYTHON": (
            f"{REPOSITORY}/.local/serving-venv/bin/python"
        ),
        # the checks are lighter than those of the pipeline file
        "TRUSTED_RETRAINING_DEPLOY_CHANGED_RULES": "true",
        "AIRFLOW__TRUSTED_RETRAINING__DEPLOY_CHANGED_RULES": "True",
        "MLFLOW_TRACKING_URI": f"sqlite:///{state}/mlflow/mlflow.db",
    }


def run_night(state: Path, *arguments: str) -> tuple[float, dict[str, Any]]:
    """Run a small night through Airflow; return its seconds and the content of last-run.json."""
    words = [f"--set={assignment}" for assignment in SMALL]
    command = [sys.executable, "-m", "trusted_retraining.local.night", "demo", *words, *arguments]
    seconds = timed(command, environment(state))
    return seconds, dict(json.loads((state / "last-run.json").read_text()))


def prepare(state: Path) -> None:
    """Create the Airflow home, which is no part of a night."""
    timed([sys.executable, "-m", "trusted_retraining.local.home"], environment(state))


def timed(command: list[str], variables: dict[str, str]) -> float:
    """Run a command and return the seconds that it took.

    Raises
    ------
    RuntimeError
        It failed; its last lines are told.
    """
    started = time.perf_counter()
    process = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:4])}: {process.stdout[-2000:]}")
    return time.perf_counter() - started
