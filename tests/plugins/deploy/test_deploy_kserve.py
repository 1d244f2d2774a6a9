"""Deployments to KServe: canary, proof, promotion, and the way back from whatever goes wrong."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tasks.contract import RunDirectory
from trusted_retraining.hooks.kserve import KServeHook
from trusted_retraining.serving.plan import STATE

Object = dict[str, Any]
Deploy = Callable[..., Object]
Night = Callable[..., RunDirectory]
ISVC = ("inferenceservices", "demo-night")
MODES = ["knative", "standard"]


def served(cluster: Any) -> set[str]:
    """Return the versions that answer those who know nothing of canaries."""
    found = cluster.objects[ISVC]
    for _ in range(cluster.kserve.lag + 1):
        cluster.answer("GET", "/apis/x/v1/namespaces/models/inferenceservices/demo-night", b"")
    digests = cluster.kserve.serving(found)
    if found["status"].get("deploymentMode") == "Knative":
        digests = {k: v for k, v in digests.items() if not k.startswith("latest-")}
    numbers = {digest: version for version, digest in cluster.versions.items()}
    return {numbers[digest] for digest in digests.values()}


def state(cluster: Any) -> Object:
    document: Object = json.loads(cluster.objects[ISVC]["metadata"]["annotations"][STATE])
    return document


@pytest.mark.parametrize("mode", MODES)
def test_a_first_and_a_second_version_go_into_service(
    cluster: Any, night: Night, deploy: Deploy, mode: str
) -> None:
    first = deploy(night("1"), mode=mode)
    assert first["metrics"]["deploy.known_answers"] == 3
    assert served(cluster) == {"1"} and cluster.aliases == {"champion": "1"}
    run = night("2", champion="1")
    second = deploy(run, mode=mode)
    assert served(cluster) == {"2"} and cluster.aliases == {"champion": "2"}
    assert state(cluster)["previous"]["version"] == "1"
    assert not cluster.objects[ISVC]["spec"].get("canary")
    assert "canaryTrafficPercent" not in cluster.objects[ISVC]["spec"]["predictor"]
    document = run.read_json("deploy/deployment.json")
    assert document["previous"]["version"] == "1" and document["model"]["version"] == "2"
    assert run.read_manifest("deploy") is not None and second["stage"] == "deploy"
    # the canary was asked at an address of its own, before anybody else got there
    digest = cluster.versions["2"]
    alone = (
        r"latest-demo-night-predictor" if mode == "knative" else r"demo-night-v2-\w{5}-predictor"
    )
    first_asked = next(each for each in cluster.asked if each.endswith(digest))
    assert re.fullmatch(f"{alone} {digest}", first_asked)
    assert cluster.metrics == {}, "there is no MLflow run in this night"
    assert {"deployed_by"} == {each["key"] for each in cluster.tags}


def test_the_canary_gets_its_share_and_the_rest_stays_where_it_was(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"))
    shares = []

    def look(_: int, method: str, path: str) -> None:
        spec = cluster.objects[ISVC]["spec"]["predictor"]
        if path.endswith(":predict"):
            shares.append(spec.get("canaryTrafficPercent"))

    cluster.before = look
    deploy(night("2", champion="1"), canary_percent=25, observe_seconds=1)
    assert shares[0] == 25 and shares[-1] is None and len(shares) > 5


def test_a_model_that_serves_already_costs_nothing(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    run = night("1")
    deploy(run)
    before = len(cluster.asked), cluster.objects[ISVC]["metadata"]["generation"]
    again = deploy(run)
    assert again["metrics"]["deploy.already_serving"] == 1
    assert (len(cluster.asked), cluster.objects[ISVC]["metadata"]["generation"]) == before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("behaviour", "retried", "reason"),
    [
        ("wrong", False, "differ from the offline predictions by more than 0.001 for 3 of 3"),
        ("nan", False, "differ from the offline predictions"),
        ("errors", True, "status 503"),
        ("slow", False, "95th percentile of latency is"),
    ],
)
def test_a_canary_that_does_not_prove_itself_is_taken_back(
    cluster: Any,
    night: Night,
    deploy: Deploy,
    mode: str,
    behaviour: str,
    retried: bool,
    reason: str,
) -> None:
    deploy(night("1"), mode=mode)
    run = night("2", champion="1")
    cluster.behaviour[cluster.versions["2"]] = behaviour
    with pytest.raises(AirflowException, match=reason) as caught:
        deploy(run, mode=mode, observe_seconds=1, max_latency_ms=200)
    assert isinstance(caught.value, AirflowFailException) is not retried
    assert "version 1 serves as before" in str(caught.value)
    assert served(cluster) == {"1"} and cluster.aliases == {"champion": "1"}
    failure = run.read_failure("deploy")
    assert failure is not None and "version 1 serves as before" in failure.reason
    assert run.read_manifest("deploy") is None
    # the next night is none the worse for it
    deploy(night("3", champion="1"), mode=mode)
    assert served(cluster) == {"3"} and state(cluster)["previous"]["version"] == "1"


@pytest.mark.parametrize("mode", MODES)
def test_a_version_that_never_gets_ready_is_taken_back(
    cluster: Any, night: Night, deploy: Deploy, mode: str
) -> None:
    deploy(night("1"), mode=mode)
    run = night("2", champion="1")
    cluster.kserve.never_ready.add(cluster.versions["2"])
    with pytest.raises(AirflowException, match="does not become ready") as caught:
        deploy(run, mode=mode, startup_seconds=1)
    expected = "out of memory" if mode == "knative" else r"canary v2-\w+ is not ready"
    assert re.search(expected, str(caught.value)) and not isinstance(
        caught.value, AirflowFailException
    )
    assert served(cluster) == {"1"} and cluster.aliases == {"champion": "1"}


def test_a_stale_ready_is_not_taken_for_the_new_version(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"))
    cluster.kserve.lag = 6
    run = night("2", champion="1")
    deploy(run)
    digests = [each.split()[1] for each in cluster.asked]
    assert digests.count(cluster.versions["1"]) == 2, "nobody asked version 1 in the second night"


def test_a_failed_first_version_is_stopped_and_a_better_one_starts(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    run = night("1")
    cluster.behaviour[cluster.versions["1"]] = "wrong"
    with pytest.raises(AirflowFailException, match="nothing served before, so nothing serves now"):
        deploy(run)
    annotations = cluster.objects[ISVC]["metadata"]["annotations"]
    assert annotations["serving.kserve.io/stop"] == "true" and cluster.aliases == {}
    deploy(night("2"))
    assert "serving.kserve.io/stop" not in cluster.objects[ISVC]["metadata"]["annotations"]
    assert served(cluster) == {"2"}


def test_files_changed_after_the_blessing_are_refused(
    cluster: Any, night: Night, deploy: Deploy, tmp_path: Path
) -> None:
    run = night("1")
    (tmp_path / "runs/models/demo_night/1/saved_model.pb").write_text("other weights")
    with pytest.raises(AirflowFailException, match="was changed after it was blessed"):
        deploy(run)
    assert cluster.objects == {}


def test_a_refused_or_unpublished_model_is_not_deployed(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    with pytest.raises(AirflowFailException, match="the verdict refuses this model: too bad"):
        deploy(night("1", blessed=False))
    run = night("2")
    run.retract("publish")
    with pytest.raises(AirflowFailException, match="run stage 'publish' first"):
        deploy(run)
    assert cluster.objects == {}


def test_another_champion_since_the_verdict_stops_it(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    night("1"), night("3")
    run = night("2", champion="1")
    cluster.aliases["champion"] = "3"
    with pytest.raises(AirflowFailException, match="version 3 became champion after the verdict"):
        deploy(run)
    assert cluster.objects == {}


def test_a_champion_crowned_during_the_watch_stops_it(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"))
    night("3")
    run = night("2", champion="1")

    def crown(_: int, method: str, path: str) -> None:
        if path.endswith(":predict"):
            cluster.aliases["champion"] = "3"

    cluster.before = crown
    with pytest.raises(AirflowFailException, match="version 3 became champion"):
        deploy(run)
    cluster.before = None
    assert served(cluster) == {"1"}


def test_when_the_registry_is_away_the_former_version_returns(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"))
    run = night("2", champion="1")

    def away(_: int, method: str, path: str) -> Any:
        return (503, {}) if method == "POST" and path.endswith("alias") else None

    cluster.before = away
    with pytest.raises(AirflowException, match=r"MLflow at .* failed"):
        deploy(run)
    cluster.before = None
    assert served(cluster) == {"1"} and cluster.aliases == {"champion": "1"}
    deploy(run)
    assert served(cluster) == {"2"} and cluster.aliases == {"champion": "2"}


def test_lost_connections_and_an_overloaded_server_are_met_with_patience(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    def shaky(number: int, method: str, path: str) -> Any:
        if path.endswith(":predict"):
            return None
        return {0: "drop", 1: (503, {"message": "etcd"}), 2: (429, {})}.get(number % 5)

    cluster.before = shaky
    deploy(night("1"))
    deploy(night("2", champion="1"))
    assert served(cluster) == {"2"} and cluster.aliases == {"champion": "2"}


def test_an_api_that_stays_away_is_told_in_one_line(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    run = night("1")
    cluster.before = lambda number, method, path: "drop" if "namespaces" in path else None
    with pytest.raises(AirflowException, match="the Kubernetes API cannot be reached") as caught:
        deploy(run)
    assert "\n" not in str(caught.value) and not isinstance(caught.value, AirflowFailException)


def test_a_status_written_meanwhile_is_no_conflict_but_another_deployment_is(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"))
    run, other = night("2", champion="1"), night("3", champion="1")
    seen = []

    def bump(_: int, method: str, path: str) -> None:
        if method == "PATCH" and len(seen) < 3:
            seen.append(path)
            cluster.objects[ISVC]["metadata"]["resourceVersion"] += "0"

    cluster.before = bump
    deploy(run)
    assert len(seen) == 3 and served(cluster) == {"2"}

    def intrude(_: int, method: str, path: str) -> None:
        if method != "PATCH":
            return
        cluster.before = None
        annotations = cluster.objects[ISVC]["metadata"]["annotations"]
        annotations[STATE] = annotations[STATE].replace("night-2", "night-9")
        cluster.objects[ISVC]["metadata"]["resourceVersion"] += "0"

    cluster.aliases["champion"] = "1"
    cluster.before = intrude
    with pytest.raises(AirflowException, match="another deployment changed it at the same time"):
        deploy(other)
    assert served(cluster) == {"2"}


def test_a_field_edited_by_hand_is_taken_back_and_one_of_others_is_left(
    cluster: Any, night: Night, deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    deploy(night("1"))
    path = "/apis/serving.kserve.io/v1beta1/namespaces/models/inferenceservices/demo-night"
    edit = {
        "metadata": {"labels": {"team": "radiology"}},
        "spec": {"predictor": {"maxReplicas": 99, "timeout": 7}},
    }
    raw = json.dumps(edit).encode()
    assert cluster.answer("PATCH", f"{path}?fieldManager=kubectl&force=true", raw)[0] == 200
    deploy(night("2", champion="1"))
    spec = cluster.objects[ISVC]["spec"]["predictor"]
    assert (spec["maxReplicas"], spec["timeout"]) == (4, 7)
    assert cluster.objects[ISVC]["metadata"]["labels"]["team"] == "radiology"
    assert 'spec.predictor.maxReplicas (conflict with "kubectl")' in caplog.text


def test_the_service_of_somebody_else_is_left_alone(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    theirs = {"metadata": {"name": "demo-night", "generation": 1, "resourceVersion": "1"}}
    cluster.objects[ISVC] = theirs | {"spec": {"predictor": {}}, "status": {}}
    cluster.kserve.lag = 99
    with pytest.raises(AirflowFailException, match=r"exists and is not ours.*nothing was"):
        deploy(night("1"))
    assert cluster.objects[ISVC]["spec"] == {"predictor": {}}


def test_a_standard_mode_without_canaries_is_refused_before_anything_changes(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    cluster.drops = ("canary",)
    deploy(night("1"), mode="standard")
    generation = cluster.objects[ISVC]["metadata"]["generation"]
    with pytest.raises(AirflowFailException, match=r"drops spec.canary, which came with release 0"):
        deploy(night("2", champion="1"), mode="standard")
    assert cluster.objects[ISVC]["metadata"]["generation"] == generation
    assert served(cluster) == {"1"}


def test_a_mode_that_the_cluster_does_not_serve_in_is_refused(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    cluster.kserve.mode = "RawDeployment"
    with pytest.raises(AirflowException, match=r"in RawDeployment mode, deploy.mode asks for Kn"):
        deploy(night("1"))
    assert cluster.aliases == {}


def test_every_field_goes_into_the_service(
    cluster: Any, night: Night, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_SERVICE_ACCOUNT", "model-reader")
    run = night("1")
    deploy(run, min_replicas=0, max_replicas=9, gpu=1, cpu="500m", memory="3Gi")
    predictor = cluster.objects[ISVC]["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (0, 9)
    assert predictor["serviceAccountName"] == "model-reader"
    assert predictor["tolerations"][0]["key"] == "nvidia.com/gpu"
    server = predictor["containers"][0]
    assert server["resources"]["limits"] == {"memory": "3Gi", "nvidia.com/gpu": "1"}
    assert server["resources"]["requests"]["cpu"] == "500m"
    variables = {each["name"]: each["value"] for each in server["env"]}
    assert variables["STORAGE_URI"].endswith("/models/demo_night/1")
    assert variables["MODEL_DIGEST"] == cluster.versions["1"]


@pytest.mark.parametrize("mode", MODES)
def test_killed_after_any_change_a_second_attempt_ends_the_same(
    cluster: Any, night: Night, deploy: Deploy, mode: str
) -> None:
    cluster.kserve.lag = 1
    deploy(night("1"), mode=mode)
    run = night("2", champion="1")
    start, snapshot = len(cluster.requests), _freeze(cluster)
    deploy(run, mode=mode)
    wanted = _outcome(cluster, run)
    told = cluster.requests[start:]
    # what only reads is the same before and after; one question to the canary stands for them
    changing = [n for n, each in enumerate(told, 1) if each.startswith(("PATCH", "POST"))]
    assert len(changing) >= 6
    for number in changing:
        _thaw(cluster, snapshot)
        run.retract("deploy")
        _killed_at(cluster, number, lambda: deploy(run, mode=mode))
        deploy(run, mode=mode)
        assert _outcome(cluster, run) == wanted, f"killed at {told[number - 1]}"


def _killed_at(cluster: Any, number: int, call: Callable[[], Any]) -> None:
    """Run a call in a process that is killed when its so-many-th request has been carried out."""
    first = len(cluster.requests)
    child = os.fork()
    if child == 0:
        try:
            call()
        finally:
            os._exit(0)

    def kill(count: int, method: str, path: str) -> None:
        if count - first == number:
            os.kill(child, signal.SIGKILL)

    cluster.after = kill
    _, status = os.waitpid(child, 0)
    cluster.after = None
    assert os.WIFSIGNALED(status), "it ended before it could be killed"


def _freeze(cluster: Any) -> Object:
    fields = ("objects", "applied", "aliases")
    frozen: Object = json.loads(
        json.dumps({each: [list(p) for p in getattr(cluster, each).items()] for each in fields})
    )
    frozen["revisions"] = list(cluster.kserve.revisions)
    frozen["looks"] = dict(cluster.kserve.looks)
    return frozen


def _thaw(cluster: Any, frozen: Object) -> None:
    copied = json.loads(json.dumps({k: v for k, v in frozen.items() if k != "looks"}))
    cluster.kserve.looks = dict(frozen["looks"])
    for each in ("objects", "applied"):
        setattr(cluster, each, {tuple(key): value for key, value in copied[each]})
    cluster.aliases = dict(copied["aliases"])
    cluster.kserve.revisions = list(frozen["revisions"])


def _outcome(cluster: Any, run: RunDirectory) -> Object:
    document = run.read_json("deploy/deployment.json")
    told = state(cluster)
    return {
        "served": served(cluster),
        "aliases": dict(cluster.aliases),
        "spec": cluster.objects[ISVC]["spec"],
        "serving": told["serving"],
        "candidate": told["candidate"],
        "previous": told["previous"],
        "model": document["model"],
        "before": document["previous"],
    }


def test_the_hook_tells_status_and_revisions(cluster: Any, night: Night, deploy: Deploy) -> None:
    deploy(night("1"))
    hook = KServeHook(
        conn_id=None,
        config_file=os.environ["AIRFLOW__TRUSTED_RETRAINING__CONFIG_FILE"],
        in_cluster=False,
    )
    assert hook.status("models", "demo-night")["deploymentMode"] == "Knative"
    assert hook.revisions("models", "demo-night")["latestReadyRevision"].endswith("-00001")
    assert hook.status("models", "nobody") == {} and hook.revisions("models", "nobody") == {}


def test_a_cluster_without_kserve_is_told_what_to_do(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    cluster.before = lambda number, method, path: (
        (404, "page not found") if "inferenceservices" in path else None
    )
    with pytest.raises(AirflowFailException, match=r"install KServe, or set deploy\.target"):
        deploy(night("1"))
