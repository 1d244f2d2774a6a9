"""A program that is not ours, run for real: what it is given, and how it ends."""

import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.cli import main
from tasks.contract import EX_CONFIG, NoInput, RunDirectory, StageError
from tasks.spec import ExtraStage
from tests.tasks.committed import commit
from tests.tasks.extra.programs import MATRIX, Script, extra, pipeline_with, run


def test_it_finds_what_the_stages_before_it_committed(night: RunDirectory, script: Script) -> None:
    command = script(
        """
        found = sorted(str(p.relative_to(inputs)) for p in inputs.rglob("*") if p.is_file())
        (outputs / "found.json").write_text(json.dumps(found))
        (outputs / "folder" / "deep").mkdir(parents=True)
        (outputs / "folder" / "deep" / "a.txt").write_text("a")
        (outputs / "arguments.json").write_text(json.dumps(sys.argv[1:]))
        """
    )
    stage = extra(
        [*command, "--from={inputs}", "{outputs}"],
        after=["evaluate", "train"],
        reads=["train/model/", "evaluate/evaluation.json"],
    )
    manifest = run(stage, night)
    folder = Path(night.path) / "judge"
    assert json.loads((folder / "found.json").read_text()) == [
        *("evaluate/evaluation.json", "evaluate/manifest.json", "pipeline.json"),
        *("train/manifest.json", "train/model/saved_model.pb", "train/model/v/weights"),
    ]
    first, second = json.loads((folder / "arguments.json").read_text())
    assert first.startswith("--from=/") and first.endswith("/inputs")
    assert second.endswith("/outputs")
    assert [output.path for output in manifest.outputs] == [
        *("arguments.json", "folder/", "found.json"),
    ]
    assert set(manifest.inputs) == {"evaluate", "train"}
    assert not list(folder.glob(".*"))


def test_it_cannot_alter_what_was_committed(night: RunDirectory, script: Script) -> None:
    command = script('(inputs / "evaluate/evaluation.json").write_text("{}")')
    run(extra(command), night)
    path = Path(night.path) / "evaluate/evaluation.json"
    assert json.loads(path.read_text()) == {"confusion_matrix": MATRIX}


def test_it_is_given_no_credentials_unless_it_asks(
    night: RunDirectory, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "TOKEN", "OTHER"):
        monkeypatch.setenv(name, "secret")
    command = script('(outputs / "env.json").write_text(json.dumps(dict(os.environ)))')

    def given(**more: Any) -> dict[str, str]:
        run(extra(command, **more), night, force=True)
        return dict(json.loads((Path(night.path) / "judge/env.json").read_text()))

    variables = given(env={"GREETING": "$HOME {inputs}"})
    assert "secret" not in variables.values()
    assert variables["GREETING"] == "$HOME {inputs}"
    assert variables["TRUSTED_RETRAINING_STAGE"] == "judge"
    assert variables["TRUSTED_RETRAINING_RUN_ID"] == "one"
    assert Path(variables["HOME"]).name == "home" and variables["HOME"] != os.environ["HOME"]
    asked = given(credentials=["storage"], inherit=["TOKEN"])
    given_too = {name for name, value in asked.items() if value == "secret"}
    assert given_too == {"AWS_SECRET_ACCESS_KEY", "TOKEN"}


@pytest.mark.parametrize(("code", "kept"), [(3, 3), (65, 65), (78, 78)])
def test_its_exit_code_is_the_stages_own(
    code: int, kept: int, night: RunDirectory, script: Script
) -> None:
    command = script(f'print("films are upside down"); sys.exit({code})')
    spec = pipeline_with(extra(command)).to_json()
    assert main(["extra", "judge", "--run-uri", night.uri, "--spec", spec]) == kept
    failure = night.read_failure("judge")
    assert failure is not None and failure.exit_code == kept
    assert "films are upside down" in failure.reason
    assert night.read_manifest("judge") is None


def test_it_is_ended_with_everything_it_started_when_its_time_is_over(
    night: RunDirectory, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = script(
        f"""
        import subprocess, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "300"])
        pathlib.Path({str(Path(night.path) / "child")!r}).write_text(str(child.pid))
        time.sleep(300)
        """
    )
    monkeypatch.setattr("tasks.extra.command.GRACE_SECONDS", 0.3)
    monkeypatch.setattr("tasks.extra.command.MINUTE", 0.02)
    started = time.monotonic()
    with pytest.raises(StageError, match="took longer than timeout_minutes, 60"):
        run(extra(command, timeout_minutes=60), night)
    assert time.monotonic() - started < 30
    child = int((Path(night.path) / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


@pytest.mark.parametrize(
    ("more", "kind", "reason"),
    [
        ({"reads": ["evaluate/other.json"]}, NoInput, "committed no other.json; there is"),
        ({"after": ["fairness"]}, NoInput, "run stage 'fairness' first"),
        ({"command": ["/no/such/program"]}, StageError, "cannot be run: No such file"),
        ({"command": [], "image": "x:1"}, StageError, "needs a cluster"),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    more: dict[str, Any], kind: type[Exception], reason: str, night: RunDirectory
) -> None:
    with pytest.raises(kind, match=reason):
        run(ExtraStage.model_validate({**extra(["true"]).model_dump(), **more}), night)


def test_a_name_that_is_no_extra_stage_is_a_wrong_configuration(night: RunDirectory) -> None:
    spec = pipeline_with(extra(["true"])).to_json()
    assert main(["extra", "nobody", "--run-uri", night.uri, "--spec", spec]) == EX_CONFIG


def test_an_equal_result_is_taken_over_and_a_changed_program_is_run_again(
    night: RunDirectory, script: Script
) -> None:
    stage = extra(script('(outputs / "metrics.json").write_text(\'{"score": 1}\')'))
    run(stage, night)
    second = RunDirectory(f"{night.pipeline_path}/runs/two")
    commit(second, "evaluate", {"evaluation.json": json.dumps({"confusion_matrix": MATRIX})})
    assert run(stage, second).reused_from == night.uri
    forced = RunDirectory(f"{night.pipeline_path}/runs/forced")
    commit(forced, "evaluate", {"evaluation.json": json.dumps({"confusion_matrix": MATRIX})})
    assert run(stage, forced, force=True).reused_from is None
    script('(outputs / "metrics.json").write_text(\'{"score": 2}\')')
    changed = run(stage, second)
    assert changed.reused_from is None and changed.metrics == {"judge.score": 2}
    third = RunDirectory(f"{night.pipeline_path}/runs/three")
    commit(third, "evaluate", {"evaluation.json": "{}"})
    assert run(stage, third).reused_from is None
    assert run(extra(stage.command, reuse=False), second).reused_from is None
