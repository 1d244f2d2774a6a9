"""Nights as a person starts them: commands in processes of their own, in a state folder of ours."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]
SERVING_PYTHON = REPOSITORY / ".local/serving-venv/bin/python"


@dataclass(frozen=True)
class Machine:
    """A machine of its own, as far as this package can tell: a state folder."""

    state: Path

    light_checks = (
        *("--set", "explain.images=4", "--set", "explain.samples=100"),
        *("--set", "robustness.images=16", "--set", "evaluate.bootstrap=100"),
    )
    """Arguments of a night whose checks are there, but are not what the test is about."""

    @property
    def environment(self) -> dict[str, str]:
        return {
            name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")
        } | {
            "TRUSTED_RETRAINING_STATE": str(self.state),
            "AIRFLOW__TRUSTED_RETRAINING__SERVING_PYTHON": str(SERVING_PYTHON),
            # nights with lighter checks than their file's are deployed here
            "AIRFLOW__TRUSTED_RETRAINING__DEPLOY_CHANGED_RULES": "True",
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
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process.returncode, process.stdout

    @staticmethod
    def stage_of(
        parent: psutil.Process, stage: str, ready: Callable[[psutil.Process], bool] = lambda _: True
    ) -> psutil.Process:
        """Wait until a process of a stage is there and does what is waited for, and return it."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            for process in parent.children(recursive=True):
                with suppress(psutil.Error):
                    if process.cmdline()[1:4] == ["-m", "tasks", stage] and ready(process):
                        return process
            time.sleep(0.05)
        raise TimeoutError(f"no stage {stage}")

    def airflow_rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return rows of Airflow's database."""
        with closing(sqlite3.connect(self.state / "airflow/airflow.db")) as connection:
            return connection.execute(query).fetchall()

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


@pytest.fixture(scope="session")
def killed_night(
    machine: Machine, first_night: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Any]:
    """What became of a night whose stage ``train`` was killed in mid-work."""
    log = tmp_path_factory.mktemp("killed") / "night.log"
    night = machine.start(
        "trusted_retraining.local.night", "demo", "--force", *machine.light_checks, log=log
    )
    guard = psutil.Process(night.pid)
    _kill(machine.stage_of(guard, "train", lambda _: "epoch 2/" in log.read_text()))
    code = night.wait(timeout=600)
    output = log.read_text()
    assert code == 0, output[-3000:]
    return machine.last_run() | {"output": output}


def _kill(process: psutil.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
