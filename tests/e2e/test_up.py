"""The whole stack as ``make up`` starts it: a night over the REST API, and one signal ends all."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tasks.contract import run_uri

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stack(machine: Any, first_night: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The running stack: its addresses, its process and its output."""
    log = machine.state / "up.log"
    ports = dict.fromkeys(("AIRFLOW_PORT", "MLFLOW_PORT", "SERVING_PORT"), "0")
    process = _start(machine, ports, log)
    try:
        deadline = time.monotonic() + 300
        while "Ctrl-C ends all" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        note = json.loads((machine.state / "stack.json").read_text())
        yield note | {"process": process, "log": log}
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)


def _start(machine: Any, ports: dict[str, str], log: Path) -> "subprocess.Popen[str]":
    with log.open("w") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "trusted_retraining.local.up"],
            env=machine.environment | ports,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )


@pytest.fixture(scope="module")
def api(machine: Any, stack: dict[str, Any]) -> httpx.Client:
    """A client of Airflow's REST API, logged in with the printed password."""
    password = json.loads((machine.state / "airflow/passwords.json").read_text())["admin"]
    assert password in stack["log"].read_text()
    client = httpx.Client(base_url=stack["airflow"], trust_env=False, timeout=60)
    answer = client.post("/auth/token", json={"username": "admin", "password": password})
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return client


def wait_for_run(api: httpx.Client, run_id: str, seconds: float = 600) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = api.get(f"/api/v2/dags/demo/dagRuns/{run_id}").json()["state"]
        if state in ("success", "failed"):
            return str(state)
        time.sleep(1)
    return "still running"


def test_no_night_starts_by_itself_when_airflow_comes_up(api: httpx.Client) -> None:
    dags = {dag["dag_id"]: dag for dag in api.get("/api/v2/dags").json()["dags"]}
    assert {"demo", "demo_biased", "covid_xray", "fashion_mnist"} <= set(dags)
    assert {name for name, dag in dags.items() if not dag["is_paused"]} == {"demo"}
    runs = api.get("/api/v2/dags/~/dagRuns").json()["dag_runs"]
    assert not [run for run in runs if run["run_type"] == "scheduled"]


def test_a_night_triggered_over_the_rest_api_runs(
    api: httpx.Client, stack: dict[str, Any], machine: Any
) -> None:
    # checks only: the data and the training are reused, the challenger goes to the running server
    conf = {"explain.images": 4, "explain.samples": 100, "robustness.images": 16}
    body = {"logical_date": None, "conf": conf}
    answer = api.post("/api/v2/dags/demo/dagRuns", json=body)
    assert answer.status_code == 200, answer.text
    run_id = answer.json()["dag_run_id"]
    assert wait_for_run(api, run_id) == "success"
    base = f"/api/v2/dags/demo/dagRuns/{run_id}/taskInstances"
    states = {ti["task_id"]: ti["state"] for ti in api.get(base).json()["task_instances"]}
    assert states.pop("reject") == "skipped" and set(states.values()) == {"success"}
    links = api.get(f"{base}/train/links").json()["extra_links"]
    target = api.get(links["MLflow run"]).headers["location"]
    assert target.startswith(f"{stack['mlflow']}/#/experiments/")
    report = api.get(links["Trust report"]).headers["location"]
    assert report == f"{target}/artifacts/report/report.html"
    stranger = httpx.get(f"{stack['airflow']}{links['MLflow run']}", trust_env=False)
    assert stranger.status_code == 401
    artifact = {"run_uuid": target.rsplit("/")[-1], "path": "report/report.html"}
    page = httpx.get(f"{stack['mlflow']}/get-artifact", params=artifact, trust_env=False)
    assert page.status_code == 200 and "Retraining report" in page.text
    manifest = api.get(f"{base}/robustness/xcomEntries/return_value").json()["value"]
    assert "robustness.clean_accuracy" in json.dumps(manifest)
    log = api.get(f"{base}/robustness/logs/1", headers={"Accept": "application/json"}).text
    assert "robustness: fgsm at" in log
    assert machine.last_run()["run_id"].startswith("manual__")


def test_a_night_that_a_person_ends_does_not_go_on_running_in_mlflow(
    api: httpx.Client, stack: dict[str, Any], machine: Any
) -> None:
    body = {"logical_date": None, "conf": {"train.epochs": 500}}
    run_id = api.post("/api/v2/dags/demo/dagRuns", json=body).json()["dag_run_id"]
    run = f"/api/v2/dags/demo/dagRuns/{run_id}"
    training = f"{run}/taskInstances/train"
    deadline = time.monotonic() + 300
    while api.get(training).json()["state"] != "running" and time.monotonic() < deadline:
        time.sleep(1)
    note = Path(run_uri(str(machine.state / "runs"), "demo", run_id)) / "mlflow.json"
    tracked = {"run_id": json.loads(note.read_text())["run_id"]}
    ask = f"{stack['mlflow']}/api/2.0/mlflow/runs/get"

    def status() -> str:
        answer = httpx.get(ask, params=tracked, trust_env=False)
        return str(answer.json()["run"]["info"]["status"])

    assert status() == "RUNNING"
    assert api.patch(run, json={"state": "failed"}).status_code == 200
    while status() == "RUNNING" and time.monotonic() < deadline:
        time.sleep(1)
    assert status() == "FAILED"


def test_a_wrong_value_is_refused_by_the_form(api: httpx.Client) -> None:
    body = {"logical_date": None, "conf": {"train.epochs": 0}}
    answer = api.post("/api/v2/dags/demo/dagRuns", json=body)
    assert answer.status_code in (400, 422) and "0 is less than the minimum of 1" in answer.text


def test_the_command_line_leaves_the_field_to_a_running_airflow(
    machine: Any, stack: dict[str, Any]
) -> None:
    code, output = machine.night("demo")
    assert code == 64 and stack["airflow"] in output


def test_the_model_server_serves_the_champion(stack: dict[str, Any]) -> None:
    answer = httpx.get(f"{stack['serving']}/v1/models", trust_env=False)
    assert "demo" in answer.json()["models"]


def test_the_mlflow_ui_shows_the_runs(stack: dict[str, Any], machine: Any) -> None:
    run_id = machine.last_run()["mlflow_run_id"]
    url = f"{stack['mlflow']}/api/2.0/mlflow/runs/get"
    answer = httpx.get(url, params={"run_id": run_id}, trust_env=False)
    assert answer.json()["run"]["info"]["run_id"] == run_id


def test_a_second_stack_leaves_the_field_to_the_first(machine: Any, stack: dict[str, Any]) -> None:
    log = machine.state / "second.log"
    assert _start(machine, {}, log).wait(timeout=60) == 1
    assert log.read_text().startswith("Airflow is running (make up, process ")


def test_one_interrupt_ends_everything_with_a_night_in_the_midst_of_it(
    api: httpx.Client, stack: dict[str, Any], machine: Any
) -> None:
    conf = {"source.rows": 240, "train.epochs": 500}
    api.post("/api/v2/dags/demo/dagRuns", json={"logical_date": None, "conf": conf})
    process = stack["process"]
    parent = psutil.Process(process.pid)
    stage = machine.stage_of(parent, "train")
    family = parent.children(recursive=True)
    assert len(family) >= 6 and stage in family
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 0
    assert not [child for child in family if child.is_running() and child.status() != "zombie"]
    assert not (machine.state / "stack.json").exists()


def test_a_part_that_dies_ends_the_others_and_is_named(machine: Any) -> None:
    log = machine.state / "up.log"
    process = _start(
        machine,
        dict.fromkeys(("AIRFLOW_PORT", "MLFLOW_PORT", "SERVING_PORT"), "0")
        | {"AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI": "nosuchstore://"},
        log,
    )
    assert process.wait(timeout=300) == 1
    text = log.read_text()
    assert "mlflow has ended; the others are ended too. Its last lines" in text
    assert not [child for child in psutil.process_iter() if _belongs_to(child, str(machine.state))]


def _belongs_to(process: psutil.Process, state: str) -> bool:
    try:
        return process.environ().get("TRUSTED_RETRAINING_STATE") == state
    except psutil.Error:
        return False
