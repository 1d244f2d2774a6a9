"""What this process was given in confidence is not in what it says."""

import os
import subprocess
import sys

import pytest

from tasks.contract import RunDirectory
from tasks.credentials import without_credentials
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.spec import Pipeline
from tasks.stages.base import Stage

PIPELINE = Pipeline.model_validate(
    {"name": "films", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
)


class Tell(Stage):
    """Fails with what a library said."""

    name = "ingest"

    def __init__(self, text):
        self.text = text

    def config(self, pipeline):
        return None

    def run(self, context):
        raise ValueError(self.text)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wJalr/K7+MDENG", "Invalid header b'wJalr/K7+MDENG\\n'"),
        ("AWS_SECRET_ACCESS_KEY", "wJalr/K7+MDENG\n", "Invalid header b'wJalr/K7+MDENG\\n'"),
        ("AWS_SECRET_ACCESS_KEY", "wJalr/K7+MDENG", "GET /?key=wJalr%2FK7%2BMDENG"),
        ("AWS_SESSION_TOKEN", "FwoGZXIvYXdz", "token FwoGZXIvYXdz has expired"),
        ("MLFLOW_TRACKING_PASSWORD", "hunter22", "401 for mlflow:hunter22"),
        ("MLFLOW_TRACKING_URI", "postgresql://ml:hunter22@db/ml", "cannot parse ml:hunter22@db"),
    ],
)
def test_a_credential_is_masked_wherever_a_library_puts_it(monkeypatch, variable, value, said):
    monkeypatch.setenv(variable, value)
    told = without_credentials(said)
    assert "***" in told
    assert "hunter22" not in told and "wJalr" not in told and "FwoG" not in told


def test_places_and_short_values_are_left_as_they_are(monkeypatch):
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token")
    monkeypatch.setenv("SOME_TOKEN", "a")
    text = "a file /var/run/secrets/token is not there"
    assert without_credentials(text) == text


def test_the_failure_record_holds_no_credential(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "FwoGZXIvYXdz")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    with pytest.raises(ValueError, match="FwoG"):
        run_stage(
            Tell("token FwoGZXIvYXdz"), pipeline=PIPELINE, run=run, environment=Environment.read()
        )
    assert run.read_failure("ingest").reason == "ValueError: token ***"


def test_no_line_of_a_stage_holds_a_credential(tmp_path):
    (tmp_path / "pipeline.json").write_text(PIPELINE.to_json())
    spec, run = f"{tmp_path}/pipeline.json", f"{tmp_path}/hunter22/runs/one"
    process = subprocess.run(
        [sys.executable, "-m", "tasks", "transform", "--spec", spec, "--run-uri", run],
        env={**os.environ, "MLFLOW_TRACKING_URI": "", "MLFLOW_TRACKING_PASSWORD": "hunter22"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 66
    assert "***/runs/one/ingest holds no manifest" in process.stdout
    assert "hunter22" not in process.stdout + process.stderr
