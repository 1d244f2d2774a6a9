"""Stages wait in Kueue's queue for a card, and nothing but the queue holds them up.

The queue, the quota and the policy are those of the cluster files with the component ``kueue``, the
pods are our operator's, and the controller is Kueue's own.
"""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException

from tasks.spec import apply_overrides, load_pipeline
from tests.cluster.airflow_side import run_pods_in, task_context
from tests.cluster.kubectl import kubectl
from tests.cluster.own_names import applied, own_objects
from tests.cluster.pod_operator.attempts import DEMO, SMALL, commit, context
from tests.cluster.pod_operator.nodes import PRESENT
from tests.kubernetes.kustomization import with_component
from tests.waiting import wait_for
from trusted_retraining.operators.pod import StagePodOperator
from trusted_retraining.settings import Settings

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.full,
    pytest.mark.timeout(480),
    pytest.mark.usefixtures("cluster"),
]

SUFFIX = f"-kueue-{uuid.uuid4().hex[:6]}"
NAMESPACE = f"trusted-retraining{SUFFIX}"
HOLD = """
import os, time
print("on the card", flush=True)
while not os.path.exists("/scratch/end"):
    time.sleep(0.5)
"""


@pytest.fixture(scope="module")
def queue(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The cluster files with the queue, and a node of the GPU pool."""
    if "workloads.kueue.x-k8s.io" not in kubectl("get", "crd", "-o", "name"):
        pytest.skip("this cluster has no Kueue: see TIER=2 in tests/ground/README.md")
    folder = with_component(tmp_path_factory.mktemp("files"), "kueue", "overlays/kind")
    label = json.loads(kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]
    try:
        if PRESENT not in label["labels"]:
            kubectl("label", "node", label["name"], f"{PRESENT}=true")
        with applied(own_objects(folder, SUFFIX)):
            yield
    finally:
        if PRESENT not in label["labels"]:
            kubectl("label", "node", label["name"], f"{PRESENT}-")


@pytest.fixture
def stage(queue: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StagePodOperator:
    """A stage with a card, as the settings for Kueue have it."""
    run_pods_in(NAMESPACE, tmp_path, monkeypatch)
    monkeypatch.delenv("AIRFLOW__TRUSTED_RETRAINING__NODE_SELECTOR")
    return operator(monkeypatch, KUEUE_QUEUE="stages")


def operator(monkeypatch: pytest.MonkeyPatch, **options: str) -> StagePodOperator:
    options |= {"PRIORITY_CLASS": f"trusted-retraining-stage{SUFFIX}"}
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)
    changes = SMALL | {"resources.stages": {"train": {"gpu": 1}}}
    return StagePodOperator(
        task_id="train",
        stage="train",
        pipeline=apply_overrides(load_pipeline(DEMO), changes),
        settings=Settings.read(),
        cmds=["python3", "-c", HOLD],
    )


def pods(*words: str) -> list[str]:
    return kubectl("-n", NAMESPACE, "get", "pods", "-o", "name", *words).split()


def workloads() -> dict[str, bool]:
    """Return Kueue's own record of each pod: whether it was let in."""
    found = json.loads(kubectl("-n", NAMESPACE, "get", "workloads", "-o", "json"))["items"]
    return {
        one["metadata"]["ownerReferences"][0]["name"]: any(
            condition["type"] == "Admitted" and condition["status"] == "True"
            for condition in one.get("status", {}).get("conditions", [])
        )
        for one in found
    }


def end(pod: str) -> None:
    script = "open('/scratch/end', 'w')"
    kubectl("-n", NAMESPACE, "exec", pod, "--", "python3", "-c", script)


def test_no_stage_goes_round_the_queue(
    stage: StagePodOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AirflowException, match=r"a stage waits in a queue: set .* kueue_queue"):
        operator(monkeypatch, KUEUE_QUEUE="").execute(context())
    assert pods() == []


def test_the_fifth_card_waits_for_one_of_four(
    stage: StagePodOperator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        night = task_context("demo", "train", run_id=f"manual__{number}")
        stage._context = night
        stage.get_or_create_pod(stage.build_pod_request_obj(night), night)
    running = "--field-selector=status.phase=Running"
    assert wait_for(lambda: len(pods(running)) == 4, 120), kubectl("get", "pods", "-A")
    holders = pods()

    # the attempt before, whose patience was short
    impatient = operator(monkeypatch, KUEUE_QUEUE="stages", SCHEDULE_TIMEOUT_SECONDS="5")
    with pytest.raises(AirflowException, match="it waits for its queue to admit it"):
        impatient.execute(context())

    commit(tmp_path)
    night = context(attempt=2)
    patient = operator(monkeypatch, KUEUE_QUEUE="stages", SCHEDULE_TIMEOUT_SECONDS="300")
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(patient.execute, night)
        try:
            assert wait_for(lambda: sorted(workloads().values()) == [False, *[True] * 4])
            (waiting,) = set(pods()) - set(holders)
            gate = kubectl(
                "-n", NAMESPACE, "get", waiting, "-o", "jsonpath={.spec.schedulingGates}"
            )
            assert "kueue.x-k8s.io/admission" in gate
            end(holders[0])
            assert wait_for(lambda: waiting in pods(running), 120), workloads()
            assert sum(workloads()[pod.removeprefix("pod/")] for pod in pods(running)) == 4
        finally:
            for pod in pods(running):
                end(pod)
        ended.result(timeout=120)
    assert night["ti"].pushed["return_value"]["stage"] == "train"
