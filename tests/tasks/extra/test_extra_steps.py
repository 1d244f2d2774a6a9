"""The steps of a pod around a program that is not ours: inputs, outputs, and what is taken over."""

import json
from pathlib import Path

import pytest

from tasks.contract import RunDirectory, StageError, extra_fingerprint
from tasks.environment import Environment
from tasks.runner import fetch_for, run_stage
from tasks.stages.extra import Extra, Reused
from tests.tasks.committed import commit
from tests.tasks.extra.programs import MATRIX, Script, extra, pipeline_with


def test_in_a_pod_the_three_steps_do_what_one_process_does_here(
    night: RunDirectory, script: Script, tmp_path: Path
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
    manifest = run_stage(step, pipeline=pipeline, run=night, environment=environment, reuse="own")
    assert manifest.metrics == {"judge.score": 0.5}
    assert [output.path for output in manifest.outputs] == ["metrics.json", "pages/"]
    # what Airflow looks for before it starts a pod
    inputs = {"evaluate": night.read_manifest("evaluate").outputs_digest}  # type: ignore[union-attr]
    assert manifest.fingerprint == extra_fingerprint(stage, inputs)
    second = RunDirectory(f"{night.pipeline_path}/runs/two")
    commit(second, "evaluate", {"evaluation.json": json.dumps({"confusion_matrix": MATRIX})})
    taken = run_stage(Reused(stage), pipeline=pipeline, run=second, environment=environment)
    assert taken.reused_from == night.uri


def test_a_pod_that_fails_leaves_no_result_of_an_earlier_attempt(
    night: RunDirectory, script: Script, tmp_path: Path
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
            step, pipeline=pipeline_with(stage), run=night, environment=environment, reuse="own"
        )


def test_a_result_that_is_gone_is_computed_by_the_next_attempt(night: RunDirectory) -> None:
    stage = extra(["unused"])
    with pytest.raises(StageError, match="is gone; a retry computes it") as caught:
        run_stage(
            Reused(stage), pipeline=pipeline_with(stage), run=night, environment=Environment.read()
        )
    assert caught.value.exit_code == 1
