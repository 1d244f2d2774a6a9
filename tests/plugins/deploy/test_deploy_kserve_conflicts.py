"""Deployments to KServe while others write to the service or name a champion."""

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tests.plugins.deploy.kserve_service import ISVC, RECORD, Deploy, Night, served


def test_a_status_written_meanwhile_is_no_conflict_but_another_deployment_is(
    cluster: Any, night: Night, deploy: Deploy
) -> None:
    deploy(night("1"))
    run, other = night("2", champion="1"), night("3", champion="2")
    seen = []

    def bump(_: int, method: str, path: str) -> None:
        if method == "PATCH" and len(seen) < 3:
            seen.append(path)
            for each in (ISVC, RECORD):
                cluster.objects[each]["metadata"]["resourceVersion"] += "0"

    cluster.before = bump
    deploy(run)
    assert len(seen) == 3 and served(cluster) == {"2"}

    def intrude(_: int, method: str, path: str) -> None:
        if method != "PATCH":
            return
        cluster.before = None
        record = cluster.objects[RECORD]
        record["data"]["state"] = record["data"]["state"].replace("night-2", "night-9")
        record["metadata"]["resourceVersion"] += "0"

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
