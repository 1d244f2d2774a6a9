"""A line says what it quotes without obeying it, and nothing that was given in confidence."""

import json
import logging
import os
import subprocess
import sys

import pytest

from tasks.contract import BadInput, Failure, Manifest, RunDirectory
from tasks.environment import Environment
from tasks.log_lines import LONGEST, STYLED, LineFormatter
from tasks.runner import run_stage
from tasks.spec import Pipeline, SpecError
from tasks.spec.masking import without_credentials
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


@pytest.mark.parametrize("password", ["p@S3CRETVALUE", "p'S3CRETVALUE", "12/S3CRETVALUE"])
def test_no_part_of_a_password_in_mlflow_s_address_is_kept(monkeypatch, tmp_path, password):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    offline = Environment.read()
    uri = f"postgresql://films:{password}@127.0.0.1:9/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    with pytest.raises(ValueError, match="cannot reach"):
        run_stage(Tell(f"cannot reach {uri}"), pipeline=PIPELINE, run=run, environment=offline)
    assert run.read_failure("ingest").reason.startswith("ValueError: cannot reach postgresql://***")
    written = [path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any("S3CRETVALUE" in text for text in written)


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


HOSTILE = "nope\n::error::pwned\x1b[2J\u202e\x00"
SHOWN = r"nope\n::error::pwned\x1b[2J\u202e\x00"


def line(message: str, *values: object, error: Exception | None = None, **more: object) -> str:
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("tasks", logging.INFO, "x", 1, message, values, info)
    record.__dict__.update(more)
    return LineFormatter("%(message)s").format(record)


def test_a_hostile_name_is_one_line():
    assert line("no such file: %s", HOSTILE) == f"no such file: {SHOWN}"


def test_the_same_holds_for_failures_warnings_and_notes():
    failure = Failure(stage="ingest", exit_code=65, reason=HOSTILE)
    assert failure.reason == SHOWN
    manifest = Manifest(
        stage="ingest",
        fingerprint="",
        location="",
        warnings=[HOSTILE, "GET https://h/z?sig=abc failed"],
        notes={"ingest.rows": HOSTILE},
    ).sealed()
    assert manifest.warnings == [SHOWN, "GET https://h/z?sig=*** failed"]
    assert manifest.notes == {"ingest.rows": SHOWN}
    # an older version's record is read the same way
    assert Failure.model_validate_json(failure.model_dump_json()) == failure


def test_errors_are_one_line_each():
    assert str(BadInput(HOSTILE)) == SHOWN
    told = SpecError(f"a: {HOSTILE}", "b: https://u:hunter2@h/")
    assert str(told).split("\n") == [f"a: {SHOWN}", "b: https://***@h/"]


def test_no_line_of_a_traceback_poses_as_something_else():
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        first, *rest = line("ingest: %s", error, error=error).split("\n")
    assert first == f"ingest: {SHOWN}"
    assert rest[0] == "| Traceback (most recent call last):"
    assert all(each.startswith("| ") for each in rest)
    assert "\x1b" not in "".join(rest)


def test_a_line_is_masked_before_it_is_cut():
    for filler in range(2 * LONGEST - 60, 2 * LONGEST):
        assert "hunter2" not in line("%s", "password='" + "x" * filler + "' u://a:hunter2@host ")
    shown = line("%s", "y" * (LONGEST - 20) + " http://films:hunter2" + "z" * LONGEST + "@host")
    assert "hunter2" not in shown


def test_a_line_of_megabytes_is_cut():
    assert len(line("%s", "x" * 5_000_000)) < LONGEST + 10


def test_colours_of_our_own_reach_the_terminal():
    assert line("\x1b[1mstage\x1b[0m", **STYLED) == "\x1b[1mstage\x1b[0m"


def test_a_file_with_a_hostile_name_gives_one_line_in_log_and_record(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "metadata.csv").write_text(
        'filename,"fin\n::error::ding"\n"' + HOSTILE.replace("\x00", "") + '",a\n', "utf-8"
    )
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    document = {
        "name": "films",
        "source": {"kind": "csv_images", "uri": str(tmp_path)},
        "label": {"column": "finding"},
    }
    (tmp_path / "pipeline.json").write_text(json.dumps(document))
    process = subprocess.run(
        [
            *(sys.executable, "-m", "tasks", "ingest", "--run-uri", run.uri),
            *("--spec", tmp_path / "pipeline.json"),
        ],
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        capture_output=True,
    )
    text = process.stdout.decode()
    assert process.returncode == 65
    assert [each for each in text.split("\n") if "pwned" in each] == [
        each for each in text.split("\n") if each.startswith("ingest: ") and SHOWN[:-4] in each
    ]
    assert not any(each.lstrip().startswith("::") for each in text.split("\n"))
    assert not any(bad in text for bad in ("\x1b", "\x00", "\u202e"))
    assert SHOWN[:-4] in run.read_failure("ingest").reason
