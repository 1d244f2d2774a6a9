"""The stages bless, deploy and reject as the runner runs them, without a registry."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.contract import (
    BadConfig,
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
from tasks.gate.evidence import JUDGED
from tasks.runner import run_stage
from tasks.spec import Pipeline, override
from tasks.stages import load_stage
from tests.tasks.committed import commit
from tests.tasks.places import environment_at

REPOSITORY = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("made_up_evidence")

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


def perform(
    stage: str, run: RunDirectory, overrides: dict[str, Any] | None = None, **place: Any
) -> Manifest:
    environment = environment_at(Path(run.path).parents[2], **place)
    return run_stage(
        load_stage(stage),
        pipeline=override(PIPELINE, overrides or {}),
        file=PIPELINE,
        requested_by="admin",
        run=run,
        environment=environment,
    )


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


CHANGED = [
    {"blessing": {"rules": [{"metric": "evaluate.least_recall", "min": 0.1}]}},
    {"blessing.default_rules": False, "blessing.rules": [{"metric": "train.x", "max": 1}]},
    {"deploy.tolerance": 0.49},
    {"split.salt": "another"},
    {"filter": ["metadata.view == 'PA'"]},
    {"transform": [{"column": "a", "function": "lower()"}]},
    {"label.positive": "yes"},
    {"validate.leakage": "warn"},
    {"fairness": {"protected": [{"attribute": "sex"}]}},
    {"fairness.min_group": 1000},
    {"explain.images": 1},
    {"robustness.images": 2},
    {"evaluate.bootstrap": 4},
]


@pytest.mark.parametrize("overrides", CHANGED, ids=json.dumps)
def test_under_changed_rules_a_model_is_judged_and_never_deployed(
    run: RunDirectory, overrides: dict[str, Any]
) -> None:
    commit(run, "train", {"model/saved_model.pb": "graph"}, metrics={"train.x": 0.5})
    for stage in JUDGED[JUDGED.index("train") + 1 :]:
        commit(run, stage, {}, metrics=GOOD if stage == "evaluate" else {})
    perform("bless", run, overrides)
    found = verdict(run)
    assert (found.blessed, found.may_serve, found.word) == (True, False, "passed, not deployed")
    assert {change.field.split(".")[0] for change in found.changes} == {
        field.split(".")[0] for field in overrides
    }
    assert found.requested_by == "admin"
    for given in (overrides, {}):
        with pytest.raises(BadInput, match="under changed rules: not deployed"):
            perform("deploy", run, given)
    assert not (Path(run.path).parents[2] / "served").exists()
    perform("reject", run, overrides)
    document = json.loads((Path(run.path) / "reject" / "rejection.json").read_text())
    assert document["verdict"] == "passed, not deployed"
    assert "put them into the pipeline file" in document["reasons"][0]


def test_a_deployment_under_other_settings_than_the_verdict_s_is_refused(run: RunDirectory) -> None:
    perform("bless", run)
    assert verdict(run).may_serve
    with pytest.raises(BadInput, match=r"not deployed \(deploy\.tolerance\)"):
        perform("deploy", run, {"deploy.tolerance": 0.49})


def test_other_changes_are_told_and_stand_in_the_way_of_nothing(run: RunDirectory) -> None:
    perform("bless", run, {"train.epochs": 3})
    assert verdict(run).may_serve
    assert [change.field for change in verdict(run).changes] == ["train.epochs"]


def test_an_installation_may_deploy_under_changed_rules(run: RunDirectory) -> None:
    perform("bless", run, {"split.salt": "another"}, deploy_changed_rules=True)
    assert verdict(run).may_serve
    assert verdict(run).changed_rules[0].field == "split.salt"


def test_a_run_goes_on_with_the_file_that_it_was_begun_with(run: RunDirectory) -> None:
    """The first stage records the file; one that is given another file changes it."""
    perform("bless", run)
    environment = environment_at(Path(run.path).parents[2])

    def again(stage: str, **changes: Any) -> None:
        other = Pipeline.model_validate(json.loads(PIPELINE.to_json()) | changes)
        run_stage(load_stage(stage), pipeline=other, run=run, environment=environment)

    with pytest.raises(BadConfig, match=r"deploy\.model_name: this run was begun with not set"):
        again("bless", deploy={"model_name": "victim"})
    with pytest.raises(BadConfig, match="name: this run was begun with 'demo'"):
        again("bless", name="victim")
    again("bless", blessing={"default_rules": False, "rules": [{"metric": "x", "min": 0}]})
    assert not verdict(run).deployable
    (Path(run.path) / "run.json").write_text("{")
    with pytest.raises(BadConfig, match="start a new run"):
        perform("bless", run)


def test_a_run_is_held_to_the_file_of_today_as_well(run: RunDirectory) -> None:
    """Begun under a lax file, which its owner then made strict; cleared with the lax values."""
    strict = [{"metric": "evaluate.least_recall", "min": 0.99}]
    perform("bless", run)
    today = Pipeline.model_validate(
        json.loads(PIPELINE.to_json()) | {"blessing": {"rules": strict}}
    )
    again = override(today, {"blessing.rules": []})
    assert again == PIPELINE
    environment = environment_at(Path(run.path).parents[2])
    run_stage(load_stage("bless"), pipeline=again, file=today, run=run, environment=environment)
    assert [change.field for change in verdict(run).changes] == ["blessing.rules"]
    assert verdict(run).word == "passed, not deployed"
    # and the verdict that it was begun with does not help it either
    with pytest.raises(BadInput, match="under changed rules: not deployed"):
        run_stage(
            load_stage("deploy"), pipeline=again, file=today, run=run, environment=environment
        )


def test_without_a_registry_earlier_verdicts_are_kept_with_the_pipeline(run: RunDirectory) -> None:
    failure = Failure(stage="explain", exit_code=1, reason="out of memory", at=now())
    explained = run.read_manifest("explain")
    assert explained is not None
    run.retract("explain")
    run.write_failure(failure)
    perform("bless", run)
    assert verdict(run).earlier == []
    run.write_manifest(explained)
    perform("bless", run, {"split.salt": "another"})
    perform("bless", run)
    assert [(each.verdict, each.changed) for each in verdict(run).earlier] == [
        ("rejected", []),
        ("passed, not deployed", ["split.salt"]),
    ]
    assert verdict(run).earlier[0].reasons == ["explain crashed: exit 1: out of memory"]
    # another model has a history of its own
    commit(run, "train", {"model/saved_model.pb": "another graph"})
    perform("bless", run)
    assert verdict(run).earlier == []


def test_a_blessed_model_that_is_not_deployed_after_all_keeps_both_verdicts(
    run: RunDirectory,
) -> None:
    perform("bless", run)
    perform("reject", run)
    perform("bless", run)
    assert [(each.verdict, each.reasons) for each in verdict(run).earlier] == [
        ("blessed", []),
        ("rejected", ["deployment was not approved"]),
    ]


def test_a_blessing_after_a_refusal_is_kept_although_the_clock_was_set_back(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = "2026-05-02T00:00:00+00:00"
    monkeypatch.setattr("tasks.gate.verdict.now", lambda: moment)
    perform("bless", run)
    moment = "2026-05-01T00:00:00+00:00"
    explained = run.read_manifest("explain")
    assert explained is not None
    run.retract("explain")
    perform("bless", run)
    run.write_manifest(explained)
    perform("bless", run)
    perform("bless", run)
    assert [each.verdict for each in verdict(run).earlier] == ["blessed", "rejected", "blessed"]


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
