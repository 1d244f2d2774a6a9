"""What an earlier state left can be read."""

import shutil

import pytest

from tasks.contract import stages_of
from tasks.spec import load_pipeline
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
