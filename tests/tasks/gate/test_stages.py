"""The stages bless, deploy and reject as the runner runs them, without a registry."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.contract import (
    BadInput,
    Failure,
    Manifest,
    ModelIdentity,
    NoInput,
    RuleResult,
    RunDirectory,
    Verdict,
    now,
)
from tasks.environment import Environment
from tasks.gate.evidence import JUDGED
from tasks.runner import run_stage
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tests.tasks.committed import commit

REPOSITORY = Path(__file__).parents[3]
PIPELINE = Pipeline.model_validate(
    {"name": "demo", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
)
GOOD = {"evaluate.least_recall": 0.8, "evaluate.balanced_accuracy_above_chance": 0.7}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(str(tmp_path / "demo" / "runs" / "one"))
    for stage in JUDGED:
        files = {"model/saved_model.pb": "graph"} if stage == "train" else {"result.json": stage}
        commit(directory, stage, files, metrics=GOOD if stage == "evaluate" else {})
    return directory


def perform(stage: str, run: RunDirectory) -> Manifest:
    environment = Environment(
        mlflow_uri="",
        serving_root=Path(run.path).parents[2] / "served",
        serving_python=Path("absent"),
        server_url="",
        code_revision="",
    )
    return run_stage(load_stage(stage), pipeline=PIPELINE, run=run, environment=environment)


def verdict(run: RunDirectory) -> Verdict:
    found = run.read_verdict()
    assert found is not None
    return found


def test_bless_commits_a_verdict_on_the_trained_model(run: RunDirectory) -> None:
    manifest = perform("bless", run)
    assert verdict(run).blessed
    assert manifest.metrics["bless.blessed"] == 1
    trained = run.read_manifest("train")
    assert trained is not None
    assert verdict(run).model.digest == trained.output("model/").sha256


def test_bless_judges_afresh_whatever_it_said_before(run: RunDirectory) -> None:
    perform("bless", run)
    run.retract("explain")
    run.write_failure(Failure(stage="explain", exit_code=1, reason="out of memory", at=now()))
    perform("bless", run)
    assert not verdict(run).blessed
    assert verdict(run).reasons == ["explain crashed: exit 1: out of memory"]


def test_bless_gives_a_verdict_even_when_nothing_ran(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path / "demo" / "runs" / "empty"))
    perform("bless", run)
    assert not verdict(run).blessed
    assert verdict(run).model.digest == ""
    assert len(verdict(run).reasons) > len(JUDGED)


def test_model_files_changed_after_training_are_refused(run: RunDirectory) -> None:
    (Path(run.path) / "train" / "model" / "saved_model.pb").write_text("another graph")
    perform("bless", run)
    assert "train/model: is not what train committed" in verdict(run).reasons[0]


def test_deploy_wants_a_verdict(run: RunDirectory) -> None:
    with pytest.raises(NoInput, match="bless"):
        perform("deploy", run)


def test_deploy_obeys_a_refusal(run: RunDirectory) -> None:
    run.retract("robustness")
    perform("bless", run)
    with pytest.raises(BadInput, match="robustness did not run"):
        perform("deploy", run)
    assert not (Path(run.path).parents[2] / "served").exists()


def test_deploy_does_not_trust_a_verdict_that_was_edited(run: RunDirectory) -> None:
    run.retract("robustness")
    perform("bless", run)
    path = Path(run.path) / "bless" / "verdict.json"
    path.write_text(verdict(run).model_copy(update={"blessed": True}).model_dump_json())
    with pytest.raises(NoInput, match="no readable verdict"):
        perform("deploy", run)


def test_deploy_refuses_a_verdict_on_another_model(run: RunDirectory) -> None:
    passed = RuleResult(metric="evaluate.accuracy", value=0.9, bound="", passed=True, reason="")
    model = ModelIdentity(name="demo", digest="another")
    other = Verdict(blessed=True, model=model, rules=[passed])
    commit(run, "bless", {"verdict.json": other.model_dump_json()})
    with pytest.raises(BadInput, match="the verdict is on model another"):
        perform("deploy", run)


@pytest.mark.parametrize("reason", ["crashed", "absent", "refused"])
def test_reject_says_why_whatever_is_left_of_the_verdict(run: RunDirectory, reason: str) -> None:
    if reason == "crashed":
        run.write_failure(Failure(stage="bless", exit_code=1, reason="disk is full", at=now()))
    if reason == "refused":
        run.retract("fairness")
        perform("bless", run)
    perform("reject", run)
    document = json.loads((Path(run.path) / "reject" / "rejection.json").read_text())
    said = {
        "crashed": "bless failed: exit 1: disk is full",
        "absent": "bless committed no readable verdict",
        "refused": "fairness did not run: it committed no manifest",
    }[reason]
    assert document["reasons"][0] == said
    assert document["champion"] is None


def test_judging_and_deploying_need_no_tensorflow() -> None:
    code = (
        "import sys; from tasks.stages import load_stage\n"
        "for name in ('bless', 'deploy', 'reject'): load_stage(name)\n"
        "heavy = {'tensorflow', 'pandas', 'mlflow', 'kserve', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or None)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False)
    assert ended.returncode == 0
