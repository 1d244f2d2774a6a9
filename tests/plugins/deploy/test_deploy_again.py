"""What a second attempt, a second deployment, or an end by hand finds and leaves."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tasks.contract import RunDirectory
from trusted_retraining.operators.deploy import DeployOperator

Object = dict[str, Any]
Deploy = Callable[..., Object]
Night = Callable[..., RunDirectory]
WAYS = [{"mode": "knative"}, {"mode": "standard"}, {"target": "deployment"}]
NAMES = ["knative", "standard", "deployment"]

ways = pytest.mark.parametrize("way", WAYS, ids=NAMES)


def record(cluster: Any, way: Object) -> Object:
    """Return what the ConfigMap holds that says what serves."""
    name = "deployment-rollout" if way.get("target") else "rollout"
    found: Object = cluster.objects["configmaps", f"demo-night-{name}"]["data"]
    return found


def state(cluster: Any, way: Object) -> Object:
    document: Object = json.loads(record(cluster, way)["state"])
    return document


def break_down(cluster: Any, digest: str) -> None:
    """Have the pods of a version start no more."""
    cluster.kserve.never_ready.add(digest)
    cluster.deployments.never_ready.add(digest)


@ways
@pytest.mark.parametrize("trouble", ["errors", "never ready"])
def test_a_retry_after_a_roll_back_gets_its_chance(
    cluster: Any, night: Night, deploy: Deploy, way: Object, trouble: str
) -> None:
    deploy(night("1"), **way)
    run = night("2", champion="1")
    if trouble == "errors":
        cluster.behaviour[cluster.versions["2"]] = "errors"
    else:
        break_down(cluster, cluster.versions["2"])
    with pytest.raises(AirflowException, match="version 1 serves as before"):
        deploy(run, startup_seconds=1, **way)
    assert state(cluster, way)["serving"]["version"] == "1"
    cluster.behaviour.clear()
    cluster.kserve.never_ready.clear()
    cluster.deployments.never_ready.clear()
    deploy(run, startup_seconds=1, **way)
    assert state(cluster, way)["serving"]["version"] == "2"
    assert cluster.aliases == {"champion": "2"}


@ways
def test_new_settings_for_the_model_in_service_are_tried_and_rolled_out(
    cluster: Any, night: Night, deploy: Deploy, way: Object
) -> None:
    run = night("1")
    deploy(run, **way)
    asked = len(cluster.asked)
    deploy(run, memory="3Gi", **way)
    found = state(cluster, way)
    limits = [found[each]["spec"]["containers"][0]["resources"]["limits"]["memory"]
              for each in ("previous", "serving")]  # fmt: skip
    assert limits == ["2Gi", "3Gi"] and found["candidate"] is None
    services = [each.split()[0] for each in cluster.asked[asked:]]
    assert (len(services) == 2 and services[0] != services[1]) or way == {"mode": "standard"}
    assert cluster.aliases == {"champion": "1"}


def test_other_bounds_on_the_number_of_pods_need_no_trial(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    run = night("1")
    deploy(run, target="deployment")
    before = cluster.objects["deployments", "demo-night"]["metadata"]["generation"]
    deploy(run, target="deployment", max_replicas=9)
    assert cluster.objects["horizontalpodautoscalers", "demo-night"]["spec"]["maxReplicas"] == 9
    assert cluster.objects["deployments", "demo-night"]["metadata"]["generation"] == before


@ways
def test_a_champion_short_of_a_pod_is_not_taken_out_of_service(
    cluster: Any, night: Night, deploy: Deploy, way: Object
) -> None:
    deploy(night("1"), **way)
    run = night("2", champion="1")
    deploy(run, startup_seconds=1, **way)
    break_down(cluster, cluster.versions["2"])
    # a controller looks again only at what has changed
    for found in cluster.objects.values():
        found["metadata"]["generation"] += 1
    with pytest.raises(AirflowException, match=r"does not become ready.*nothing was changed"):
        deploy(run, startup_seconds=1, **way)
    assert state(cluster, way)["serving"]["version"] == "2"
    assert cluster.aliases == {"champion": "2"}


@ways
def test_a_damaged_record_of_what_serves_stops_everything(
    cluster: Any, night: Night, deploy: Deploy, way: Object
) -> None:
    deploy(night("1"), **way)
    for text in (None, "{", '{"serving": 7}'):
        data = record(cluster, way)
        data.pop("state", None) if text is None else data.update({"state": text})
        before = repr(cluster.objects)
        with pytest.raises(AirflowFailException, match="is missing or damaged"):
            deploy(night("2", champion="1"), **way)
        assert repr(cluster.objects) == before


@ways
def test_a_failed_roll_back_is_told_and_tried_again(
    cluster: Any, night: Night, deploy: Deploy, way: Object
) -> None:
    deploy(night("1"), **way)
    run = night("2", champion="1")
    digest = cluster.versions["2"]
    cluster.behaviour[digest] = "wrong"

    def lock_out(_: int, method: str, path: str) -> Any:
        asked = any(each.endswith(digest) for each in cluster.asked)
        return (403, {"message": "forbidden"}) if asked and method == "PATCH" else None

    cluster.before = lock_out
    with pytest.raises(AirflowException, match="ROLLING BACK FAILED as well") as caught:
        deploy(run, **way)
    # wrong answers alone are no reason to try again; what was left behind is
    assert not isinstance(caught.value, AirflowFailException)
    cluster.before = None
    with pytest.raises(AirflowFailException, match="version 1 serves as before"):
        deploy(run, **way)
    assert state(cluster, way)["serving"]["version"] == "1"


@ways
def test_a_task_ended_by_hand_takes_its_canary_back(
    cluster: Any, night: Night, operator: Callable[..., DeployOperator], way: Object
) -> None:
    operator(**way).execute({"run_id": night("1").run_id, "params": {}})
    run = night("2", champion="1")
    task = operator(**way, observe_seconds=1)

    def end(_: int, method: str, path: str) -> None:
        if path.endswith(":predict"):
            cluster.before = None
            os.kill(os.getpid(), signal.SIGTERM)

    cluster.before = end
    # as Airflow's own handler, which lets the task run on
    former = signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
    try:
        with pytest.raises(AirflowException):
            task.execute({"run_id": run.run_id, "params": {}})
    finally:
        signal.signal(signal.SIGTERM, former)
    found = state(cluster, way)
    assert (found["serving"]["version"], found["candidate"]) == ("1", None)
    assert cluster.aliases == {"champion": "1"}


def test_a_second_roll_back_takes_back_no_more(
    cluster: Any, night: Night, deploy: Deploy, operator: Callable[..., DeployOperator]
) -> None:
    """A version fails once it has every request, and the task is ended by hand while it fails."""
    for version, champion in (("1", None), ("2", "1")):
        deploy(night(version, champion=champion))
    run = night("3", champion="2")
    task = operator()

    def away(_: int, method: str, path: str) -> Any:
        if method == "POST" and path.endswith("alias"):
            os.kill(os.getpid(), signal.SIGTERM)
            return 400, {"message": "no"}
        return None

    cluster.before = away
    former = signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
    try:
        with pytest.raises(AirflowException):
            task.execute({"run_id": run.run_id, "params": {}})
    finally:
        signal.signal(signal.SIGTERM, former)
    assert state(cluster, WAYS[0])["serving"]["version"] == "2"


def test_no_password_gets_into_messages_records_and_logs(
    cluster: Any,
    night: Night,
    deploy: Deploy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="trusted_retraining")
    address = cluster.url.replace("://", "://joe:sesame@")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_ADDRESS", address + "/{service}")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__PROMETHEUS_URL", address)
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__PROMETHEUS_ERROR_RATE_QUERY", "up")
    first, second = night("1"), night("2", champion="1")
    with pytest.raises(AirflowException, match="Prometheus at") as prometheus:
        deploy(first)
    monkeypatch.delenv("AIRFLOW__TRUSTED_RETRAINING__PROMETHEUS_URL")
    deploy(first)
    cluster.behaviour[cluster.versions["2"]] = "errors"
    with pytest.raises(AirflowException, match="status 503") as errors:
        deploy(second)
    told = [str(prometheus.value), str(errors.value), caplog.text]
    for run in (first, second):
        told += [str(run.read_failure("deploy")), str(run.read_json("deploy/deployment.json"))]
    assert not [each for each in told if "sesame" in each]
