"""What a program that is not ours leaves: when it is believed, what it decides, who shows it."""

import json
from pathlib import Path

import pytest

from tasks.cli import main
from tasks.contract import EX_DATAERR, BadInput, RunDirectory, StageError, judged_stages
from tasks.gate import ChampionEvidence, Evidence, judge
from tasks.reporting.page import render_page
from tasks.reporting.summary import read_summary
from tasks.reporting.table import render_table
from tasks.spec import Blessing, Rule, load_pipeline
from tests.tasks.committed import commit
from tests.tasks.extra.programs import Script, extra, pipeline_with, run

EXAMPLE = Path(__file__).parents[3] / "docs/examples/extra-stage"


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
    text: str, reason: str, night: RunDirectory, script: Script
) -> None:
    with pytest.raises(BadInput, match=r"^judge: ") as caught:
        run(extra(script(text)), night)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    assert night.read_manifest("judge") is None


def test_a_metric_that_is_not_finite_is_told_and_fails_its_rule(
    night: RunDirectory, script: Script
) -> None:
    text = '{"a": NaN, "b": 1e999, "c": 2}'
    manifest = run(extra(script(f'(outputs / "metrics.json").write_text({text!r})')), night)
    assert manifest.metrics == {"judge.c": 2}
    assert [warning.split()[1] for warning in manifest.warnings] == ["a", "b"]


def test_a_crash_refuses_the_model_even_after_an_earlier_success(
    night: RunDirectory, script: Script
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


def test_table_and_report_show_it_among_the_others(night: RunDirectory, script: Script) -> None:
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
