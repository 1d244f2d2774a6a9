"""The worker says what serves, to stages that cannot look and before anything is switched."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tasks.contract import BadConfig, Champion, RunDirectory, StageError
from tests.plugins.deploy.nights import pipeline_of
from trusted_retraining.operators.local import LocalStageOperator
from trusted_retraining.operators.pod import StagePodOperator
from trusted_retraining.operators.stage import StageMixin
from trusted_retraining.serving.plan import OURS
from trusted_retraining.serving.serving_now import what_serves
from trusted_retraining.settings import Settings

Object = dict[str, Any]
Deploy = Callable[..., Object]
Night = Callable[..., RunDirectory]
WAYS = [{"mode": "knative"}, {"mode": "standard"}, {"target": "deployment"}]

ways = pytest.mark.parametrize("way", WAYS, ids=["knative", "standard", "deployment"])


def record(cluster: Any, way: Object) -> tuple[str, str]:
    name = "deployment-rollout" if way.get("target") else "rollout"
    return "configmaps", f"demo-night-{name}"


@ways
def test_what_serves_is_read_from_the_record_of_the_last_deployment(
    cluster: Any, night: Night, deploy: Deploy, way: Object
) -> None:
    pipeline = pipeline_of(**way)
    assert what_serves(pipeline, Settings.read()) is None
    deploy(night("1"), **way)
    assert what_serves(pipeline, Settings.read()) == Champion("1", cluster.versions["1"])


@pytest.mark.parametrize("before", [{"target": "deployment"}, {"mode": "knative"}])
def test_what_serves_by_another_target_still_serves(
    cluster: Any, night: Night, deploy: Deploy, before: Object
) -> None:
    deploy(night("1"), **before)
    now = {} if before.get("target") else {"target": "deployment"}
    assert what_serves(pipeline_of(**now), Settings.read()) == Champion("1", cluster.versions["1"])


@pytest.mark.parametrize("before", [{"target": "deployment"}, {"mode": "knative"}])
def test_our_object_of_another_kind_without_its_record_is_not_taken_for_nothing(
    cluster: Any, night: Night, deploy: Deploy, before: Object
) -> None:
    deploy(night("1"), **before)
    cluster.objects.pop(record(cluster, before))
    now = {} if before.get("target") else {"target": "deployment"}
    with pytest.raises(BadConfig, match="nothing tells what serves"):
        what_serves(pipeline_of(**now), Settings.read())


def test_what_a_controller_made_from_our_labels_is_not_our_record(cluster: Any) -> None:
    metadata = {
        "name": "demo-night",
        "labels": dict(OURS),
        "ownerReferences": [{"kind": "InferenceService", "controller": True}],
    }
    cluster.objects["services", "demo-night"] = {"kind": "Service", "metadata": metadata}
    assert what_serves(pipeline_of(), Settings.read()) is None


def test_what_serves_by_another_target_is_asked_before_the_switch(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"), target="deployment")
    cluster.aliases.clear()
    with pytest.raises(AirflowFailException, match="serves, but no version in the registry has"):
        deploy(night("2"))
    assert ("inferenceservices", "demo-night") not in cluster.objects


def test_an_object_of_another_kind_that_is_not_ours_is_not_asked(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    # Knative makes a Service of that name itself
    deploy(night("1"))
    metadata = {"name": "demo-night", "annotations": {}, "resourceVersion": "1", "generation": 1}
    cluster.objects["services", "demo-night"] = {"kind": "Service", "metadata": metadata}
    assert what_serves(pipeline_of(), Settings.read()) == Champion("1", cluster.versions["1"])


@ways
@pytest.mark.parametrize("text", [None, "{", '{"serving": 7}'])
def test_a_record_that_cannot_be_read_is_not_taken_for_nothing(
    cluster: Any, night: Night, deploy: Deploy, way: Object, text: str | None
) -> None:
    deploy(night("1"), **way)
    data = cluster.objects[record(cluster, way)]["data"]
    data.pop("state") if text is None else data.update({"state": text})
    with pytest.raises(BadConfig, match="nothing tells what serves"):
        what_serves(pipeline_of(**way), Settings.read())


def test_a_cluster_out_of_reach_is_not_taken_for_nothing(cluster: Any) -> None:
    cluster.before = lambda *_: "drop"
    with pytest.raises(StageError, match="the Kubernetes API cannot be reached"):
        what_serves(pipeline_of(), Settings.read())
    cluster.before = lambda *_: (403, {"message": "forbidden"})
    with pytest.raises(BadConfig, match="refuses GET"):
        what_serves(pipeline_of(), Settings.read())


def arguments(stage: str, kind: type[StageMixin] = StagePodOperator, **fields: Any) -> list[str]:
    operator: Any = kind(
        task_id=stage,
        stage=stage,
        pipeline=pipeline_of(**fields),
        settings=Settings.read(),
    )
    return list(operator.stage_arguments({"run_id": "night-1", "params": {}}))


def served(arguments: list[str]) -> str:
    return arguments[arguments.index("--served") + 1]


def test_evaluate_and_bless_are_told_what_serves_and_no_other_stage(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    for stage in ("evaluate", "bless"):
        assert served(arguments(stage)) == "none"
    deploy(night("1"))
    for stage in ("evaluate", "bless"):
        assert served(arguments(stage)) == f"1:{cluster.versions['1']}"
    for stage in ("train", "fairness", "publish", "reject", "report"):
        assert "--served" not in arguments(stage)


def test_the_command_for_a_person_says_it_too(
    cluster: Any, night: Night, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(night("1"))
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__RUNTIME", "local")
    operator = LocalStageOperator(
        task_id="bless",
        stage="bless",
        pipeline=pipeline_of(target="kserve"),
        settings=Settings.read(),
    )
    context = {"run_id": "night-1", "params": {}}
    assert "--served" not in operator.by_hand(context)
    operator.stage_arguments(context)
    assert operator.by_hand(context).endswith(f"--served 1:{cluster.versions['1']}")


def test_stages_of_the_worker_are_told_too_when_a_cluster_serves(
    cluster: Any, night: Night, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(night("1"))
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__RUNTIME", "local")
    told = arguments("bless", LocalStageOperator, target="kserve")
    assert served(told) == f"1:{cluster.versions['1']}"
    cluster.before = lambda *_: (500, {})
    assert "--served" not in arguments("bless", LocalStageOperator)


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [((403, {}), AirflowFailException, 78), ("drop", AirflowException, 1)],
    ids=["refused", "out of reach"],
)
@pytest.mark.parametrize("runtime", ["kubernetes", "local"])
def test_a_stage_that_cannot_be_told_is_not_started(
    cluster: Any,
    night: Night,
    answer: Any,
    kind: type[Exception],
    code: int,
    runtime: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__RUNTIME", runtime)
    run = night("1")
    operator_of: Any = LocalStageOperator if runtime == "local" else StagePodOperator
    operator = operator_of(
        task_id="bless",
        stage="bless",
        pipeline=pipeline_of(target="kserve"),
        settings=Settings.read(),
    )
    cluster.before = lambda *_: answer
    with pytest.raises(AirflowException, match="what serves cannot be read") as failed:
        operator.execute({"run_id": run.run_id, "params": {}, "ti": None})
    assert type(failed.value) is kind
    failure = run.read_failure("bless")
    assert failure is not None and failure.exit_code == code


def lost_alias(cluster: Any) -> None:
    cluster.aliases.clear()


def untagged(cluster: Any) -> None:
    cluster.versions["4"] = ""
    cluster.aliases["champion"] = "4"


def served_by_hand(cluster: Any) -> None:
    data = cluster.objects[record(cluster, {})]["data"]
    state = json.loads(data["state"])
    state["serving"] |= {"version": "8", "digest": "e" * 64}
    data["state"] = json.dumps(state)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lost_alias, r"version 1 \(.*\) serves, but no version in the registry has the alias"),
        (untagged, "version 4, which has no tag 'digest'"),
        (served_by_hand, r"but version 8 \(eeeeeeeeeeee\) serves"),
    ],
)
def test_records_that_disagree_stop_the_deployment(
    cluster: Any, night: Night, deploy: Deploy, change: Callable[[Any], None], said: str
) -> None:
    deploy(night("1"))
    change(cluster)
    before = repr(cluster.objects)
    with pytest.raises(AirflowFailException, match=f"{said}.*nothing was changed"):
        deploy(night("2", champion="1"))
    assert repr(cluster.objects) == before


def test_an_untagged_champion_stops_a_first_deployment(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    untagged(cluster)
    with pytest.raises(AirflowFailException, match="no tag 'digest'"):
        deploy(night("1"))
    assert cluster.objects == {}


def test_a_verdict_that_knew_no_champion_does_not_replace_what_serves(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"))
    lost_alias(cluster)
    with pytest.raises(AirflowFailException, match="who serves is not certain"):
        deploy(night("2"))


@pytest.mark.parametrize("noted", [True, False], ids=["by its tag", "by blessed versions"])
def test_a_champion_that_only_the_registry_remembers_is_not_replaced_unseen(
    cluster: Any, night: Night, deploy: Deploy, noted: bool
) -> None:
    run = night("2")
    deploy(night("1"))
    cluster.objects.clear()
    lost_alias(cluster)
    if not noted:
        cluster.model_tags.clear()
        cluster.blessed = ["1"]
    with pytest.raises(AirflowFailException, match=r"version 1 \(.*\) was champion once"):
        deploy(run)
    assert cluster.objects == {} and cluster.aliases == {}


def test_an_alias_moved_past_the_registrys_memory_stops_the_deployment(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"))
    run = night("2", champion="1")
    cluster.model_tags["last_champion"] = f"7:{'e' * 64}"
    with pytest.raises(AirflowFailException, match="'last_champion' says that version 7"):
        deploy(run)
    cluster.model_tags["last_champion"] = "none"
    with pytest.raises(AirflowFailException, match="no version was ever champion"):
        deploy(run)


def test_a_first_blessed_version_is_no_champion_of_the_past(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    # a registry of an earlier release has no tag; bless has marked the version a moment ago
    run = night("1")
    cluster.blessed = ["1"]
    deploy(run)
    assert cluster.aliases == {"champion": "1"}


def test_the_registry_remembers_the_champion_before_the_alias_moves(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    noted = []

    def look(_: int, method: str, path: str) -> None:
        if method == "POST" and path.endswith("registered-models/alias"):
            noted.append(dict(cluster.model_tags))

    cluster.before = look
    deploy(night("1"))
    assert noted == [{"last_champion": f"1:{cluster.versions['1']}"}]


def test_a_verdict_on_no_registered_version_is_not_deployed_past_the_registry(
    cluster: Any, night: Night, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(night("1"))
    run = night("2", champion="1")
    verdict = run.read_verdict()
    assert verdict is not None
    unregistered = verdict.model.model_copy(update={"version": None})
    without = verdict.model_copy(update={"model": unregistered})
    monkeypatch.setattr(RunDirectory, "read_verdict", lambda *_: without)
    with pytest.raises(AirflowFailException, match="names no registered version"):
        deploy(run)
    assert what_serves(pipeline_of(), Settings.read()) == Champion("1", cluster.versions["1"])


def test_a_model_that_belongs_to_another_pipeline_is_not_deployed(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    run = night("1")
    cluster.owner = "newcomer"
    with pytest.raises(AirflowFailException, match="belongs to pipeline 'newcomer'"):
        deploy(run)
    assert cluster.objects == {}


@pytest.mark.parametrize(
    ("train", "said"), [("2", "but train committed"), (None, "holds no model")]
)
def test_a_model_that_train_did_not_commit_is_not_deployed(
    cluster: Any, night: Night, deploy: Deploy, train: str | None, said: str
) -> None:
    run = night("1")
    run.retract("train")
    if train is not None:
        other = night(train).read_manifest("train")
        assert other is not None
        run.write_manifest(other)
    with pytest.raises((AirflowFailException, AirflowException), match=said):
        deploy(run)
    assert cluster.objects == {}
