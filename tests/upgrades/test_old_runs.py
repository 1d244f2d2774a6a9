"""What an earlier state left can be read."""

import shutil
from pathlib import Path

import pytest

from tasks.contract import stages_of
from tasks.reporting.summary import read_summary
from tasks.reporting.table import render_table
from tasks.runner import run_stage
from tasks.spec import Pipeline, load_pipeline
from tasks.stages import load_stage
from tests.upgrades.old_state import OldState

JUDGED = (
    *("ingest", "transform", "filter", "arrange", "validate", "train", "evaluate"),
    *("fairness", "explain", "robustness", "rows", "bless", "deploy"),
)


@pytest.mark.parametrize("night", ["first", "second"])
def test_the_manifests_of_a_blessed_night_are_readable_and_their_outputs_stand(
    old_state: OldState, night: str
) -> None:
    run = old_state.run(night)
    manifests = {stage: run.read_manifest(stage) for stage in JUDGED}
    assert [stage for stage, manifest in manifests.items() if manifest is None] == []
    assert [stage for stage, found in manifests.items() if found and not run.stands(found)] == []
    assert set(JUDGED) <= set(stages_of(run))
    verdict = run.read_verdict()
    assert verdict is not None and verdict.may_serve
    assert verdict.model.version == {"first": "1", "second": "2"}[night]


def test_the_failure_and_the_refusal_of_a_night_are_readable(old_state: OldState) -> None:
    run = old_state.run("third")
    failure = run.read_failure("train")
    assert failure is not None and failure.exit_code == 78
    assert "the training has diverged" in failure.reason
    verdict = run.read_verdict()
    assert verdict is not None and not verdict.may_serve
    assert "train failed" in verdict.reasons[0]
    assert verdict.champion is not None and verdict.champion.version == "2"


def test_the_pipeline_files_of_that_state_are_still_accepted(old_state: OldState) -> None:
    files = sorted((old_state.root / "pipelines").glob("*.yaml"))
    assert len(files) >= 8
    assert [load_pipeline(str(file)).name for file in files] == [file.stem for file in files]


def test_nothing_leads_out_of_the_unpacked_folder(old_state: OldState) -> None:
    """The fixture itself: moved away, its nights are gone."""
    run = old_state.run("second")
    manifest = run.read_manifest("ingest")
    assert manifest is not None and str(old_state.root) in manifest.location
    shutil.rmtree(old_state.root / "store")
    assert not run.stands(manifest)


@pytest.mark.parametrize("night", ["first", "second", "third"])
def test_report_and_summary_of_an_old_night_can_be_made(old_state: OldState, night: str) -> None:
    run, environment = old_state.run(night), old_state.environment
    spec = Pipeline.model_validate(run.read_json("pipeline.json"))
    run_stage(load_stage("report"), pipeline=spec, run=run, environment=environment)
    page = (Path(run.path) / "report/report.html").read_text(encoding="utf-8")
    verdict = run.read_verdict()
    assert verdict is not None
    assert verdict.model.digest[:12] in page
    passed = sum(rule.passed for rule in verdict.rules)
    assert f"{passed} of {len(verdict.rules)} rules passed" in page
    summary = read_summary(run)
    table = render_table(summary, run=run, environment=environment, colour=False)
    assert ("third" if night == "third" else "accuracy") in table
    assert summary["run_id"] == night


def test_old_results_are_computed_again_rather_than_taken_over(old_state: OldState) -> None:
    """Their manifests say things that nothing covers, so they are no evidence of today."""
    run = old_state.run("fourth")
    for stage in ("ingest", "transform", "filter", "arrange", "validate"):
        manifest = run_stage(
            load_stage(stage),
            pipeline=old_state.pipeline,
            run=run,
            environment=old_state.environment,
        )
        assert manifest.reused_from is None
        assert run.read_manifest(stage) == manifest
