"""The command line of the stages, as a pod runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.contract import STAGES
from tasks.spec import load_pipeline

REPOSITORY = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tasks", *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_help_tells_what_a_stage_reads_and_writes(
    stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.cli import main

    with pytest.raises(SystemExit) as ended:
        main([stage, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "reads:" in text
    assert "manifest.json" in text


def test_an_unknown_stage_ends_with_the_usage_code() -> None:
    result = run("trian", "--run-uri", "x", "--spec", "y")
    assert result.returncode == 64
    assert "invalid choice: 'trian'" in result.stderr


def test_a_wrong_pipeline_file_ends_with_the_config_code_and_one_line(tmp_path: Path) -> None:
    spec = tmp_path / "films.yaml"
    spec.write_text("name: films\nsource: {kind: synthetic}\nlabel: {column: a}\nowners: me\n")
    result = run("filter", "--run-uri", str(tmp_path / "run"), "--spec", str(spec))
    assert result.returncode == 78
    assert result.stdout.strip() == f"{spec}: owners: no such field"


def test_a_stage_before_its_input_ends_with_the_no_input_code(tmp_path: Path) -> None:
    result = run(
        *("filter", "--run-uri", str(tmp_path / "films/runs/one")),
        *("--spec", str(REPOSITORY / "dags/pipelines/covid_xray.yaml")),
    )
    assert result.returncode == 66
    assert "run stage 'transform' first" in result.stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A pipeline file."""
    path = tmp_path / "films.yaml"
    path.write_text("name: films\nsource: {kind: synthetic}\nlabel: {column: finding}\n")
    return path


def stage(
    name: str, file: Path, *, spec: dict[str, Any] | None = None, **more: str
) -> tuple[int, str]:
    """Run a stage as an operator does, which gives the file beside the spec."""
    document = json.loads(load_pipeline(file).to_json()) | (spec or {})
    words = [name, "--run-uri", str(file.parent / "films/runs/one"), "--spec", json.dumps(document)]
    words += ["--file", load_pipeline(file).to_json()]
    ended = run(*words, *(word for pair in more.items() for word in pair))
    return ended.returncode, ended.stdout


@pytest.mark.parametrize(
    "spec",
    [
        {"deploy": {"model_name": "victim"}},
        {"name": "victim"},
        {"train": {"architecture": "os:system"}},
        {"source": {"kind": "custom", "reader": "os:system"}},
        {"source": {"kind": "csv_images", "uri": "http://169.254.169.254/"}},
    ],
    ids=json.dumps,
)
def test_the_stage_itself_holds_the_spec_against_the_file(file: Path, spec: dict[str, Any]) -> None:
    code, said = stage("transform", file, spec=spec)
    assert code == 78
    assert next(iter(spec)) in said
    assert not (file.parent / "films").exists()


def test_what_a_run_was_begun_with_is_recorded_with_who_asked(file: Path) -> None:
    spec = {"train": {"epochs": 2}}
    code, _ = stage("transform", file, spec=spec, **{"--requested-by": "ann"})
    assert code == 66
    begun = json.loads((file.parent / "films/runs/one/run.json").read_text())
    assert begun["requested_by"] == "ann"
    assert begun["file"]["train"]["epochs"] == 10
    document = json.loads((file.parent / "films/runs/one/pipeline.json").read_text())
    assert document["train"]["epochs"] == 2


def test_a_run_is_not_continued_under_another_pipeline_s_name(file: Path) -> None:
    stage("transform", file)
    file.write_text(file.read_text() + "deploy: {model_name: victim}\n")
    uri = str(file.parent / "films/runs/one")
    ended = run("bless", "--run-uri", uri, "--spec", str(file))
    assert ended.returncode == 78
    assert "deploy.model_name: this run was begun with not set" in ended.stdout


def test_by_hand_the_owner_of_the_file_names_code_but_not_another_model(file: Path) -> None:
    uri = str(file.parent / "films/runs/one")
    words = ("--run-uri", uri, "--spec", str(file))
    ended = run("transform", *words, "--set", "train.architecture=films:model")
    assert ended.returncode == 66
    ended = run("transform", *words, "--set", "deploy={model_name: victim}")
    assert ended.returncode == 78
    assert "deploy.model_name: belongs to the DAG" in ended.stdout


@pytest.mark.parametrize("uri", ["s3://key:hunter2@bucket/x", "https://h/x?token=hunter2"])
def test_the_address_of_a_run_holds_no_credential(uri: str) -> None:
    process = run("ingest", "--run-uri", uri, "--spec", "films.yaml")
    assert process.returncode == 64
    assert "--run-uri: holds " in process.stderr
    assert "hunter2" not in process.stdout + process.stderr
