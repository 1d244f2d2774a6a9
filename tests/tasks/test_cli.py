"""The command line of the stages, as a pod runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.contract import STAGES

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
