"""A program that is not ours, run for real under the contract of our own stages."""

import json
import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.cli import main
from tasks.contract import (
    EX_CONFIG,
    EX_DATAERR,
    BadInput,
    Manifest,
    NoInput,
    RunDirectory,
    StageError,
    describe_outputs,
    extra_fingerprint,
    judged_stages,
    outputs_digest,
)
from tasks.environment import Environment
from tasks.gate import ChampionEvidence, Evidence, judge
from tasks.reporting.page import render_page
from tasks.reporting.summary import read_summary
from tasks.reporting.table import render_table
from tasks.runner import fetch_for, run_stage
from tasks.spec import Blessing, ExtraStage, Pipeline, Rule, load_pipeline
from tasks.stages.extra import Extra, Reused

EXAMPLE = Path(__file__).parents[3] / "docs/examples/extra-stage"
MATRIX = [[40, 10], [5, 45]]

Run = Callable[..., Manifest]


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def night(tmp_path: Path) -> RunDirectory:
    """Return a run in which ``evaluate`` and ``train`` have committed something."""
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    commit(run, "evaluate", {"evaluation.json": json.dumps({"confusion_matrix": MATRIX})})
    commit(run, "train", {"model/saved_model.pb": "graph", "model/v/weights": "w"})
    return run


def commit(run: RunDirectory, stage: str, files: dict[str, str]) -> None:
    folder = Path(run.path) / stage
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    outputs = describe_outputs(folder)
    run.write_manifest(
        Manifest(
            stage=stage,
            fingerprint="f",
            digest=outputs_digest(outputs),
            location=run.stage_uri(stage),
            outputs=outputs,
        )
    )


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], list[str]]:
    def write(text: str) -> list[str]:
        path = tmp_path / "program.py"
        head = (
            "import json, os, pathlib, sys\n"
            "inputs = pathlib.Path(os.environ['TRUSTED_RETRAINING_INPUTS'])\n"
            "outputs = pathlib.Path(os.environ['TRUSTED_RETRAINING_OUTPUTS'])\n"
        )
        path.write_text(head + textwrap.dedent(text))
        return [sys.executable, str(path)]

    return write


def pipeline_with(extra: ExtraStage | dict[str, Any]) -> Pipeline:
    document = extra if isinstance(extra, dict) else extra.model_dump(mode="json")
    return Pipeline.model_validate(
        {
            "name": "films",
            "source": {"kind": "synthetic"},
            "label": {"column": "finding"},
            "extra_stages": [document],
        }
    )


def extra(command: list[str], **more: Any) -> ExtraStage:
    fields = {"name": "judge", "command": command, "after": ["evaluate"], **more}
    return ExtraStage.model_validate(fields)


def run(stage: ExtraStage, night: RunDirectory, *, force: bool = False) -> Manifest:
    return run_stage(
        Extra(stage),
        pipeline=pipeline_with(stage),
        run=night,
        environment=Environment.read(),
        force=force,
    )


def example_in_a_pipeline(folder: Path) -> Path:
    path = folder / "films.yaml"
    head = "name: films\nsource: {kind: synthetic}\nlabel: {column: finding}\n"
    path.write_text(head + (EXAMPLE / "extra_stages.yaml").read_text())
    return path


def test_the_example_is_run_by_the_command_line_and_its_metric_decides(
    night: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = example_in_a_pipeline(tmp_path)
    monkeypatch.chdir(EXAMPLE.parents[2])
    assert main(["extra", "kappa", "--run-uri", night.uri, "--spec", str(path)]) == 0
    manifest = night.read_manifest("kappa")
    # by hand: 0.85 observed, 0.5 expected by chance
    assert manifest is not None and manifest.metrics["kappa.kappa"] == pytest.approx(0.7)
    assert manifest.metrics["kappa.kappa.low"] == pytest.approx(0.5600, abs=1e-3)
    pipeline = load_pipeline(path)
    evidence = Evidence.read(night, judged_stages(pipeline))
    nobody = ChampionEvidence(current=None, evaluated_digest=None, predictions=None)
    found = judge(pipeline.blessing, evidence, model_name="films", champion=nobody)
    assert [each.passed for each in found.rules if each.metric == "kappa.kappa"] == [True]


def test_the_example_says_when_its_input_is_wrong(
    night: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLE.parents[2])
    commit(night, "evaluate", {"evaluation.json": "{}"})
    spec = str(example_in_a_pipeline(tmp_path))
    code = main(["extra", "kappa", "--run-uri", night.uri, "--spec", spec])
    failure = night.read_failure("kappa")
    assert code == EX_DATAERR and failure is not None and failure.exit_code == EX_DATAERR
    assert "no confusion matrix to judge" in failure.reason


def test_it_finds_what_the_stages_before_it_committed(
    night: RunDirectory, script: Callable[[str], list[str]]
) -> None:
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


def test_it_cannot_alter_what_was_committed(
    night: RunDirectory, script: Callable[[str], list[str]]
) -> None:
    command = script('(inputs / "evaluate/evaluation.json").write_text("{}")')
    run(extra(command), night)
    path = Path(night.path) / "evaluate/evaluation.json"
    assert json.loads(path.read_text()) == {"confusion_matrix": MATRIX}


def test_it_is_given_no_credentials_unless_it_asks(
    night: RunDirectory, script: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
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
    code: int, kept: int, night: RunDirectory, script: Callable[[str], list[str]]
) -> None:
    command = script(f'print("films are upside down"); sys.exit({code})')
    spec = pipeline_with(extra(command)).to_json()
    assert main(["extra", "judge", "--run-uri", night.uri, "--spec", spec]) == kept
    failure = night.read_failure("judge")
    assert failure is not None and failure.exit_code == kept
    assert "films are upside down" in failure.reason
    assert night.read_manifest("judge") is None


def test_a_crash_refuses_the_model_even_after_an_earlier_success(
    night: RunDirectory, script: Callable[[str], list[str]]
) -> None:
    stage = extra(script('(outputs / "metrics.json").write_text(\'{"score": 1}\')'))
    run(stage, night)
    script("os.kill(os.getpid(), 9)")
    with pytest.raises(StageError, match="exit code 137"):
        run(stage, night)
    evidence = Evidence.read(night, judged_stages(pipeline_with(stage)))
    nobody = ChampionEvidence(current=None, evaluated_digest=None, predictions=None)
    rules = Blessing(rules=[Rule(metric="judge.score", min=0.5)])
    verdict = judge(rules, evidence, model_name="films", champion=nobody)
    assert not verdict.blessed
    reasons = [reason for reason in verdict.reasons if "judge" in reason]
    assert "judge crashed: exit 137" in reasons[0] and reasons[1] == "judge.score is missing"


def test_an_equal_result_is_taken_over_and_a_changed_program_is_run_again(
    night: RunDirectory, script: Callable[[str], list[str]]
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


def test_it_is_ended_with_everything_it_started_when_its_time_is_over(
    night: RunDirectory, script: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
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
    ("text", "reason"),
    [
        ('(outputs / "link").symlink_to("/etc/passwd")', "output link is a link"),
        ('(outputs / "d").mkdir(); (outputs / "d/l").symlink_to("/etc")', "d/l is a link"),
        ('os.mkfifo(outputs / "pipe")', "no plain file"),
        ('(outputs / "manifest.json").write_text("{}")', "a name of ours"),
        (
            '(outputs / "a").mkdir(); (outputs / "a/x").touch(); (outputs / "a.tar").touch()',
            "a name of ours",
        ),
        ('(outputs / "a\\nb").touch()', "cannot be printed"),
        ('(outputs / "metrics.json").write_text("[1]")', "one object"),
        ('(outputs / "metrics.json").write_text("{")', "not valid JSON"),
        ('(outputs / "metrics.json").write_text("[" * 100000)', "not valid JSON"),
        ('(outputs / "metrics.json").write_text(\'{"a": 1, "a": 2}\')', "'a' is given twice"),
        ('(outputs / "metrics.json").write_text(\'{"a": "1"}\')', "a: '1' is not a number"),
        ('(outputs / "metrics.json").write_text(\'{"a": true}\')', "is not a number"),
        ('(outputs / "metrics.json").write_text(\'{"a": {"b": 1}}\')', "is not a number"),
        ('(outputs / "metrics.json").write_text(\'{"a b\\\\n": 1}\')', "not the name of a metric"),
        ('(outputs / "metrics.json").write_text("{}" + " " * 1000001)', "at most 1,000,000"),
    ],
)
def test_what_it_leaves_is_believed_only_when_it_is_plain(
    text: str, reason: str, night: RunDirectory, script: Callable[[str], list[str]]
) -> None:
    with pytest.raises(BadInput, match=r"^judge: ") as caught:
        run(extra(script(text)), night)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    assert night.read_manifest("judge") is None


def test_a_metric_that_is_not_finite_is_told_and_fails_its_rule(
    night: RunDirectory, script: Callable[[str], list[str]]
) -> None:
    text = '{"a": NaN, "b": 1e999, "c": 2}'
    manifest = run(extra(script(f'(outputs / "metrics.json").write_text({text!r})')), night)
    assert manifest.metrics == {"judge.c": 2}
    assert [warning.split()[1] for warning in manifest.warnings] == ["a", "b"]


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


def test_in_a_pod_the_three_steps_do_what_one_process_does_here(
    night: RunDirectory, script: Callable[[str], list[str]], tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    stage = extra(["unused"])
    pipeline, environment = pipeline_with(stage), Environment.read()
    step = Extra(stage, exchange=volume)
    fetch_for(step, pipeline=pipeline, run=night, environment=environment)
    given = volume / "inputs/evaluate/evaluation.json"
    assert json.loads(given.read_text()) == {"confusion_matrix": MATRIX}
    (volume / "outputs/metrics.json").write_text('{"score": 0.5}')
    (volume / "outputs/pages").mkdir()
    (volume / "outputs/pages/one.txt").write_text("1")
    manifest = run_stage(step, pipeline=pipeline, run=night, environment=environment, force=True)
    assert manifest.metrics == {"judge.score": 0.5}
    assert [output.path for output in manifest.outputs] == ["metrics.json", "pages/"]
    # what Airflow looks for before it starts a pod
    inputs = {"evaluate": night.read_manifest("evaluate").digest}  # type: ignore[union-attr]
    assert manifest.fingerprint == extra_fingerprint(stage, inputs)
    second = RunDirectory(f"{night.pipeline_path}/runs/two")
    commit(second, "evaluate", {"evaluation.json": json.dumps({"confusion_matrix": MATRIX})})
    taken = run_stage(Reused(stage), pipeline=pipeline, run=second, environment=environment)
    assert taken.reused_from == night.uri


def test_a_pod_that_fails_leaves_no_result_of_an_earlier_attempt(
    night: RunDirectory, script: Callable[[str], list[str]], tmp_path: Path
) -> None:
    stage = extra(["unused"])
    step, environment = Extra(stage, exchange=tmp_path / "volume"), Environment.read()
    commit(night, "judge", {"metrics.json": '{"score": 1}'})
    fetch_for(step, pipeline=pipeline_with(stage), run=night, environment=environment)
    # from here on nothing is committed unless the foreign container ends well
    assert night.read_manifest("judge") is None
    commit(night, "evaluate", {"evaluation.json": "changed meanwhile"})
    with pytest.raises(StageError, match="inputs have changed"):
        run_stage(
            step, pipeline=pipeline_with(stage), run=night, environment=environment, force=True
        )


def test_a_result_that_is_gone_is_computed_by_the_next_attempt(night: RunDirectory) -> None:
    stage = extra(["unused"])
    with pytest.raises(StageError, match="is gone; a retry computes it") as caught:
        run_stage(
            Reused(stage), pipeline=pipeline_with(stage), run=night, environment=Environment.read()
        )
    assert caught.value.exit_code == 1


def test_table_and_report_show_it_among_the_others(
    night: RunDirectory, script: Callable[[str], list[str]]
) -> None:
    metrics = json.dumps({"score": 0.25, "score.low": 0.1, "score.high": 0.4})
    text = f'(outputs / "metrics.json").write_text({metrics!r})'
    run(extra(script(text), name="a_rather_long_name"), night)
    summary = read_summary(night)
    assert summary["stages"]["a_rather_long_name"]["exit_code"] == 0
    assert summary["metrics"]["a_rather_long_name.score"] == 0.25
    lines = [line for line in render_table(summary, run=night).splitlines() if "rather" in line]
    assert len(lines) == 1 and "score 0.250" in lines[0]
    page = render_page(night)
    part = page.split('<section id="extra">')[1].split("</section>")[0]
    assert "0.250" in part and "0.100 to 0.400" in part
