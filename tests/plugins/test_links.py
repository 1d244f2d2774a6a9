"""The buttons of a task lead to where MLflow is when somebody clicks."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from tasks.contract import Manifest, RunDirectory
from trusted_retraining.links import MlflowRunLink, TrustReportLink
from trusted_retraining.redirects import Redirects

KEY = SimpleNamespace(dag_id="demo", run_id="manual__2026-01-31T02:00:00+00:00")
PATH = "/demo/manual__2026-01-31T02%3A00%3A00%2B00%3A00"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_UI", "http://mlflow:5000/")
    return RunDirectory(f"{tmp_path}/demo/runs/manual__2026-01-31T02_00_00_00_00")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A client that is logged in; what a stranger is told is tested on the running server."""
    from airflow.api_fastapi.core_api import security

    def allowed(**_: object) -> object:
        return lambda: None

    monkeypatch.setattr(security, "requires_access_dag", allowed)
    return TestClient(Redirects(), follow_redirects=False)


def test_buttons_are_paths_below_airflows_own_address(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = (MlflowRunLink(), TrustReportLink())
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:8080")
    assert [link.get_link(None, ti_key=KEY) for link in links] == [
        f"/trusted_retraining{PATH}/mlflow",
        f"/trusted_retraining{PATH}/report",
    ]
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://ml.example/airflow/")
    assert links[0].get_link(None, ti_key=KEY) == f"/airflow/trusted_retraining{PATH}/mlflow"


def test_there_is_no_button_without_mlflow(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI", "none")
    assert MlflowRunLink().get_link(None, ti_key=KEY) == ""


def test_a_click_leads_to_where_mlflow_is_now(
    run: RunDirectory, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get(f"{PATH}/mlflow").status_code == 404
    run.write_json("mlflow.json", {"experiment_id": "1", "run_id": "abc"})
    page = "http://mlflow:5000/#/experiments/1/runs/abc"
    assert client.get(f"{PATH}/mlflow").headers["location"] == page
    # the port was taken when everything was started again
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__MLFLOW_UI", "http://mlflow:15000")
    moved = page.replace("5000", "15000")
    assert client.get(f"{PATH}/mlflow").headers["location"] == moved


def test_the_report_is_there_once_it_was_written(run: RunDirectory, client: TestClient) -> None:
    run.write_json("mlflow.json", {"experiment_id": "1", "run_id": "abc"})
    answer = client.get(f"{PATH}/report")
    assert answer.status_code == 404 and "no report" in answer.json()["detail"]
    run.write_manifest(
        Manifest(stage="report", fingerprint="f", location=run.stage_uri("report")).sealed()
    )
    assert client.get(f"{PATH}/report").headers["location"] == (
        "http://mlflow:5000/#/experiments/1/runs/abc/artifacts/report/report.html"
    )


@pytest.mark.parametrize("path", ["/..%2fdemo/x/mlflow", "/Demo/x/mlflow", f"{PATH}/elsewhere"])
def test_nothing_else_can_be_asked_for(run: RunDirectory, client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)
