"""Deployments to KServe that do not prove themselves: the former version serves as before."""

import re
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tests.plugins.deploy.kserve_service import ISVC, MODES, Deploy, Night, served, state


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
    expected = "out of memory" if mode == "knative" else r"0 of 1 pods of m\w+ are ready"
    assert re.search(expected, str(caught.value)) and not isinstance(
        caught.value, AirflowFailException
    )
    assert served(cluster) == {"1"} and cluster.aliases == {"champion": "1"}


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
