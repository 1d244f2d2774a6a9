"""From what stages left behind to a verdict that fails closed."""

from pathlib import Path

import pytest

from tasks.contract import Failure, Manifest, Output, RunDirectory, Verdict, now
from tasks.gate import ChampionEvidence, Evidence, judge
from tasks.gate.evidence import JUDGED
from tasks.spec import Blessing, Rule

GOOD = {
    "evaluate": {
        "evaluate.least_recall": 0.8,
        "evaluate.balanced_accuracy_above_chance": 0.7,
        "evaluate.balanced_accuracy": 0.85,
    }
}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(str(tmp_path / "demo" / "runs" / "one"))
    for stage in JUDGED:
        commit(directory, stage)
    return directory


def commit(run: RunDirectory, stage: str, inputs: dict[str, str] | None = None) -> None:
    outputs = [Output(path="model/", bytes=1, sha256="m0del")] if stage == "train" else []
    run.write_manifest(
        Manifest(
            stage=stage,
            fingerprint="f",
            location=run.stage_uri(stage),
            outputs=outputs,
            metrics=GOOD.get(stage, {}),
            inputs=inputs or {},
        ).sealed()
    )


def verdict_on(run: RunDirectory, blessing: Blessing | None = None) -> Verdict:
    nobody = ChampionEvidence(current=None, evaluated_digest=None, predictions=None)
    return judge(blessing or Blessing(), Evidence.read(run), model_name="demo", champion=nobody)


def test_a_whole_night_with_good_figures_is_blessed(run: RunDirectory) -> None:
    verdict = verdict_on(run)
    assert verdict.blessed
    assert verdict.reasons == []
    assert verdict.model.digest == "m0del"


def test_one_rule_that_fails_refuses_the_model(run: RunDirectory) -> None:
    verdict = verdict_on(run, Blessing(rules=[Rule(metric="evaluate.balanced_accuracy", min=0.9)]))
    assert not verdict.blessed
    assert verdict.reasons == ["evaluate.balanced_accuracy is 0.85, must be >= 0.9"]


@pytest.mark.parametrize("stage", JUDGED)
def test_a_stage_without_a_manifest_refuses_the_model(run: RunDirectory, stage: str) -> None:
    run.retract(stage)
    verdict = verdict_on(run)
    assert not verdict.blessed
    assert any(f"{stage} did not run" in reason for reason in verdict.reasons)


def test_a_crashed_check_is_a_refusal_with_its_reason(run: RunDirectory) -> None:
    run.retract("robustness")
    run.write_failure(Failure(stage="robustness", exit_code=137, reason="killed", at=now()))
    verdict = verdict_on(run)
    assert not verdict.blessed
    assert "robustness crashed: exit 137: killed" in verdict.reasons
    assert [rule.metric for rule in verdict.rules if not rule.passed] == ["robustness"]


def test_a_failure_counts_until_a_later_attempt_makes_it_good(run: RunDirectory) -> None:
    run.write_failure(Failure(stage="explain", exit_code=137, reason="killed", at=now()))
    # what lies there is of an earlier attempt, or was put there
    assert verdict_on(run).reasons == ["explain crashed: exit 137: killed"]
    manifest = run.read_manifest("explain")
    assert manifest is not None
    run.write_manifest(manifest)
    assert verdict_on(run).blessed


def test_an_unreadable_manifest_counts_as_absent(run: RunDirectory) -> None:
    Path(run.path, "fairness", "manifest.json").write_text('{"stage": "fairness"')
    assert "fairness did not run" in " ".join(verdict_on(run).reasons)


def test_a_check_of_another_model_is_a_refusal(run: RunDirectory) -> None:
    commit(run, "robustness", inputs={"train": "digest-of-an-earlier-model"})
    reasons = verdict_on(run).reasons
    assert reasons == [
        "robustness examined another result of train than this run holds: run it again"
    ]


def test_a_train_stage_without_a_model_is_a_refusal(run: RunDirectory) -> None:
    run.write_manifest(
        Manifest(stage="train", fingerprint="f", location=run.stage_uri("train")).sealed()
    )
    assert "train committed no model/" in verdict_on(run).reasons


@pytest.mark.parametrize(
    "blessing",
    [Blessing(default_rules=False, champion=None), Blessing(default_rules=False)],
    ids=["nothing", "a champion to beat that does not exist"],
)
def test_a_pipeline_without_any_rule_blesses_nothing(run: RunDirectory, blessing: Blessing) -> None:
    verdict = verdict_on(run, blessing)
    assert not verdict.blessed
    assert "no rule is in force" in verdict.reasons[0]
