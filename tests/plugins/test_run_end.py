"""An MLflow run does not go on running after its DAG run has ended, whatever ended it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from airflow.listeners.listener import get_listener_manager

from tasks import tracking
from tasks.contract import Manifest, RunDirectory
from tasks.spec import Pipeline
from tests.tasks.places import environment_at
from tests.waiting import wait_for
from trusted_retraining import run_end, unclosed

RUN = "manual__2026-01-31T02:00:00+00:00"
PIPELINE = Pipeline.model_validate(
    {"name": "films", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
)


class Night:
    """A run that MLflow shows as running."""

    def __init__(self, root: Path, mlflow_uri: str) -> None:
        self.run = RunDirectory(run_end.run_directory(run_end.Settings.read(), "films", RUN).uri)
        self.environment = environment_at(
            root,
            mlflow_uri=mlflow_uri,
            serving_python=Path(sys.executable),
            mlflow_artifacts=str(root / "artifacts"),
        )
        tracking.find_or_create_run(pipeline=PIPELINE, run=self.run, environment=self.environment)
        assert self.status == "RUNNING"

    @property
    def status(self) -> str:
        with tracking.mlflow_client(self.environment) as client:
            return str(client.get_run(self.run.read_json("mlflow.json")["run_id"]).info.status)

    def commit(self, stage: str) -> None:
        self.run.write_manifest(
            Manifest(stage=stage, fingerprint="f", location=self.run.stage_uri(stage)).sealed()
        )


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Settings with a store of the test's own; returns MLflow's address."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for name, value in {"STATE": tmp_path, "STORAGE_ROOT": tmp_path, "MLFLOW_URI": uri}.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", str(value))
    return uri


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"),
            *("--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/server.db"),
            *("--default-artifact-root", str(folder / "artifacts"), "--no-serve-artifacts"),
        ],
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 400
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_run_that_nobody_closed_is_failed_in_the_database(settings: str, tmp_path: Path) -> None:
    night = Night(tmp_path, settings)
    assert run_end.main(["films", RUN, "failed"]) == 0
    assert night.status == "FAILED"


@pytest.mark.parametrize(("state", "status"), [("failed", "FAILED"), ("success", "FINISHED")])
def test_a_run_that_nobody_closed_is_ended_on_the_server_once(
    settings: str,
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    status: str,
) -> None:
    night = Night(tmp_path, server)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI", server)
    assert run_end.main(["films", RUN, state]) == 0
    assert night.status == status
    # what it ended with first stays
    run_end.main(["films", RUN, "success" if state == "failed" else "failed"])
    assert night.status == status


def test_a_server_that_is_away_is_asked_until_it_is_back(
    settings: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    night = Night(tmp_path, server)
    away(monkeypatch)
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI", server)

    monkeypatch.setattr(run_end.time, "sleep", wait)
    monkeypatch.setattr("trusted_retraining.hooks.mlflow.ATTEMPTS", 1)
    assert run_end.main(["films", RUN, "failed"]) == 0
    assert waited == [30, 60, 120]
    assert capsys.readouterr().err.count("its MLflow run could not be closed") == 3
    assert night.status == "FAILED"


def test_what_could_not_be_closed_is_closed_at_the_end_of_the_next_night(
    settings: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    night = Night(tmp_path, server)
    away(monkeypatch)
    monkeypatch.setattr(run_end, "WAITS", ())
    monkeypatch.setattr("trusted_retraining.hooks.mlflow.ATTEMPTS", 1)
    assert run_end.main(["films", RUN, "failed"]) == 1
    assert "the end of the pipeline's next run closes it" in capsys.readouterr().err
    # it is back; of the next night nothing of its own is left to close
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI", server)
    later = RUN.replace("01-31", "02-01")
    assert run_end.is_open("films", later)
    assert run_end.main(["films", later, "success"]) == 0
    assert night.status == "FAILED"
    assert not run_end.is_open("films", later)


def test_a_night_whose_process_was_killed_is_closed_by_the_next_one(
    settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = Night(tmp_path, settings)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_end, "_close", killed)
        run_end.main(["films", RUN, "failed"])
    assert run_end.main(["films", RUN.replace("01-31", "02-01"), "success"]) == 0
    assert night.status == "FAILED"


def test_a_night_that_was_cleared_is_not_closed_while_it_is_under_way_again(
    settings: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    night = Night(tmp_path, server)
    away(monkeypatch)
    monkeypatch.setattr("trusted_retraining.hooks.mlflow.ATTEMPTS", 1)
    waited = []

    def cleared(seconds: float) -> None:
        waited.append(seconds)
        # as the scheduler calls it; MLflow is back as well
        again = SimpleNamespace(dag_id="films", run_id=RUN, clear_number=1)
        get_listener_manager().hook.on_dag_run_running(dag_run=again, msg="started")
        monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI", server)

    monkeypatch.setattr(run_end.time, "sleep", cleared)
    # neither its own end, which is still trying, nor that of another night closes it
    assert run_end.main(["films", RUN, "failed"]) == 0
    assert run_end.main(["films", RUN.replace("01-31", "02-01"), "success"]) == 0
    assert waited == [30]
    assert night.status == "RUNNING"
    assert run_end.main(["films", RUN, "success"]) == 0
    assert night.status == "FINISHED"


def test_nights_that_end_at_once_keep_their_notes(settings: str, tmp_path: Path) -> None:
    nights = [
        run_end.run_directory(run_end.Settings.read(), "films", RUN.replace("31", day))
        for day in ("29", "30")
    ]
    for run in nights:
        unclosed.note(run, success=run is nights[0])
    assert [run.uri for run in unclosed.all_noted(nights[0])] == [run.uri for run in nights]
    assert [unclosed.noted(run) for run in nights] == [True, False]
    unclosed.remove(nights[0])
    unclosed.remove(nights[0])
    assert [unclosed.noted(run) for run in nights] == [None, False]


def away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI", "http://127.0.0.1:9")


def test_airflow_tells_our_listener_and_it_closes_the_run(settings: str, tmp_path: Path) -> None:
    night = Night(tmp_path, settings)
    dag_run = SimpleNamespace(dag_id="films", run_id=RUN)
    # as the scheduler calls it when a run times out, and the API server when a person marks one
    get_listener_manager().hook.on_dag_run_failed(dag_run=dag_run, msg="timed_out")
    deadline = time.monotonic() + 300
    while night.status == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert night.status == "FAILED"


def test_who_waits_for_the_output_of_airflow_does_not_wait_for_mlflow(
    settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Night(tmp_path, settings)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI", away)
        end = f"run_end.close_later('films', {RUN!r}, success=True)"
        words = f"from trusted_retraining import run_end; {end}"
        try:
            subprocess.run(
                [sys.executable, "-c", words], capture_output=True, timeout=25, check=True
            )
            (process,) = _closing(tmp_path)
            # it goes on trying although nobody reads what it says
            assert wait_for(lambda: unclosed.noted(RunDirectory(_run_uri())) is True)
            assert process.is_running()
        finally:
            for process in _closing(tmp_path):
                process.kill()


def _run_uri() -> str:
    return run_end.run_directory(run_end.Settings.read(), "films", RUN).uri


def _closing(state: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get("AIRFLOW__TRUSTED_RETRAINING__STATE") == str(state)
            if ours and "trusted_retraining.run_end" in process.cmdline():
                found.append(process)
    return found


def test_only_a_night_of_ours_that_is_not_closed_yet_is_looked_at(
    settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not run_end.is_open("somebody_elses", "manual__1")
    assert not run_end.is_open("../films", RUN)
    night = Night(tmp_path, settings)
    assert run_end.is_open("films", RUN)
    night.commit("report")
    assert not run_end.is_open("films", RUN)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI", "none")
    assert not run_end.is_open("films", RUN)


def test_of_a_dag_that_is_none_of_ours_nothing_is_written(settings: str, tmp_path: Path) -> None:
    assert run_end.main(["somebody_elses", RUN, "success"]) == 0
    assert not list(tmp_path.rglob(unclosed.FOLDER))


def test_what_is_wrong_with_a_night_never_reaches_the_scheduler(
    settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__RUNTIME", "nowhere")
    dag_run = SimpleNamespace(dag_id="films", run_id=RUN)
    get_listener_manager().hook.on_dag_run_failed(dag_run=dag_run, msg="")
