"""Nights as a person starts them: commands in processes of their own, in a state folder of ours."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
SERVING_PYTHON = REPOSITORY / ".local/serving-venv/bin/python"


@dataclass(frozen=True)
class Machine:
    """A machine of its own, as far as this package can tell: a state folder."""

    state: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")
        } | {
            "TRUSTED_RETRAINING_STATE": str(self.state),
            "AIRFLOW__TRUSTED_RETRAINING__SERVING_PYTHON": str(SERVING_PYTHON),
        }

    def start(self, module: str, *arguments: str, log: Path) -> "subprocess.Popen[str]":
        with log.open("w") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=REPOSITORY,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )

    def night(self, *arguments: str) -> tuple[int, str]:
        """Run a night to its end and return exit code and output."""
        process = subprocess.run(
            [sys.executable, "-m", "trusted_retraining.local.night", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process.returncode, process.stdout

    def last_run(self) -> dict[str, Any]:
        return dict(json.loads((self.state / "last-run.json").read_text()))

    def mlflow_runs(self, run_id: str) -> list[Any]:
        """Return the MLflow runs that name a night."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.state}/mlflow/mlflow.db")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = client.search_runs(experiments)
        return [run for run in runs if any(run_id in value for value in run.data.tags.values())]


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A fresh machine, which the tests of this folder share in their order."""
    if not SERVING_PYTHON.exists():
        pytest.skip(f"no serving environment at {SERVING_PYTHON}: make setup")
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="session")
def first_night(machine: Machine) -> Mapping[str, Any]:
    """What became of the first night of ``demo``."""
    code, output = machine.night("demo")
    assert code == 0, output[-3000:]
    return machine.last_run() | {"output": output}
