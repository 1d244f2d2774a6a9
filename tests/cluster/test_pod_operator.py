"""The pod operator on a real cluster: every way in which a pod ends, and none is left behind.

The operator, its pod and the cluster are real; only the command in the container is a script of the
test's, which does what a stage would not do at a test's wish.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.eks import EksHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from kubernetes.client import CoreV1Api
from kubernetes.config import new_client_from_config

from tasks.contract import Failure, Manifest, RunDirectory, run_uri
from tasks.spec import Toleration, apply_overrides, load_pipeline
from tests.cluster.images import BASE
from trusted_retraining.operators.pod import StageEksPodOperator, StagePodOperator
from trusted_retraining.pods import _DEAD_NODE
from trusted_retraining.settings import Settings

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("cluster"),
]

SMALL = {
    "resources.model": {"gpu": 0, "cpu": "50m", "memory": "64Mi", "ephemeral_storage": "64Mi",
                        "shared_memory": "8Mi"},
}  # fmt: skip
RUN_ID = "manual__2026-07-04T02:00:00+00:00"
# the first process of a container ignores a signal that it has no handler for
SLEEP = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("at work", flush=True)
time.sleep(120)
"""


def kubectl(*words: str) -> str:
    answer = subprocess.run(["kubectl", *words], capture_output=True, text=True, check=True)
    return answer.stdout


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    name = f"op-test-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    wait_for(lambda: "default" in kubectl("-n", name, "get", "serviceaccounts", "-o", "name"))
    try:
        yield name
        # a kubelet takes up to a minute for one that it could not start
        assert wait_for(lambda: not kubectl("-n", name, "get", "pods", "-o", "name"), 150)
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


class TaskInstance(SimpleNamespace):
    """What the provider asks of Airflow's task instance."""

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


class StateStore(dict[str, Any]):
    """What is kept for the attempts of a task."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def context(attempt: int = 1, store: StateStore | None = None) -> dict[str, Any]:
    ti = TaskInstance(
        dag_id="demo",
        task_id="train",
        run_id=RUN_ID,
        map_index=-1,
        try_number=attempt,
        start_date=datetime.now(UTC),
        pushed={},
    )
    return {
        "ti": ti,
        "run_id": ti.run_id,
        "params": {},
        "dag": SimpleNamespace(dag_id="demo"),
        "task_state_store": store,
    }


Make = Callable[..., StagePodOperator]


@pytest.fixture
def make(tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a maker of operators whose container runs a script; no pod may be left after it."""
    options = {
        "RUNTIME": "kubernetes",
        "NAMESPACE": namespace,
        "STORAGE_ROOT": str(tmp_path / "runs"),
        "MLFLOW_URI": "http://mlflow:5000",
        "TASKS_IMAGE": BASE,
        "IMAGE_PULL_POLICY": "IfNotPresent",
        "NODE_SELECTOR": "{}",
        "TERMINATION_GRACE_SECONDS": "5",
        "POLL_SECONDS": "1",
    }
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", '{"conn_type": "kubernetes"}')

    def operator(
        script: str,
        changes: dict[str, Any] | None = None,
        kind: type[StagePodOperator] = StagePodOperator,
        **more: Any,
    ) -> Any:
        pipeline = load_pipeline(Path(__file__).parents[2] / "dags/pipelines/demo.yaml")
        return kind(
            task_id="train",
            stage="train",
            pipeline=apply_overrides(pipeline, SMALL | (changes or {})),
            settings=Settings.read(),
            cmds=["python3", "-c", script],
            **more,
        )

    yield operator
    assert not pods(namespace), "pods were left"


def pods(namespace: str) -> list[str]:
    """Return the pods that nobody has asked to be deleted."""
    found = json.loads(kubectl("-n", namespace, "get", "pods", "-o", "json"))["items"]
    return [
        f"pod/{pod['metadata']['name']}"
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
    ]


def running(namespace: str) -> list[str]:
    return kubectl(
        "-n", namespace, "get", "pods", "-o", "name", "--field-selector=status.phase=Running"
    ).split()


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.3)
    return False


def run_directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(run_uri(f"{tmp_path}/runs", "demo", RUN_ID))


def commit(tmp_path: Path) -> None:
    run = run_directory(tmp_path)
    run.write_manifest(
        Manifest(stage="train", fingerprint="f", digest="d", location=run.stage_uri("train"))
    )


def failure(tmp_path: Path) -> Failure:
    found = run_directory(tmp_path).read_failure("train")
    assert found is not None
    return found


def test_the_manifest_in_storage_is_the_result(make: Make, tmp_path: Path) -> None:
    commit(tmp_path)
    night = context()
    make("import sys; print(sys.argv[1:3])").execute(night)
    assert night["ti"].pushed["return_value"]["digest"] == "d"
    assert night["ti"].pushed["pod_name"].startswith("demo-train-")


def test_the_container_has_what_a_stage_needs_and_nothing_to_write_elsewhere(
    make: Make, tmp_path: Path
) -> None:
    commit(tmp_path)
    make(
        """
import os, pathlib
assert os.getuid() == 65532 and os.getgid() == 65532
for name in ("HOME", "TMPDIR", "TRUSTED_RETRAINING_SCRATCH"):
    pathlib.Path(os.environ[name], "x").write_text("x")
for name in ("MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
    os.makedirs(os.environ[name])
pathlib.Path("/dev/shm/x").write_text("x")
try:
    pathlib.Path("/x").write_text("x")
except OSError as error:
    assert "Read-only" in str(error) or "denied" in str(error), error
else:
    raise SystemExit("the root file system can be written to")
assert not pathlib.Path("/var/run/secrets/kubernetes.io").exists()
"""
    ).execute(context())


def test_a_field_gets_no_variable_from_a_secret(
    make: Make, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl("-n", namespace, "create", "secret", "generic", "keys", "--from-literal=KEY=k7k7")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_SECRET", "keys")
    commit(tmp_path)
    make(
        """
import json, os, sys
assert os.environ["KEY"] == "k7k7"
assert "k7k7" not in str(sys.argv), sys.argv
assert json.loads(sys.argv[5])["description"] == "@(KEY) @@(KEY) 5@".replace("@", chr(36))
""",
        {"description": "$(KEY) $$(KEY) 5$"},
    ).execute(context())


def test_bad_input_fails_at_once_with_the_last_line(make: Make, tmp_path: Path) -> None:
    operator = make("print('train: row 7: no such image'); raise SystemExit(65)")
    with pytest.raises(AirflowFailException, match=r"row 7: no such image \(exit code 65\)"):
        operator.execute(context())
    assert failure(tmp_path).exit_code == 65


def test_any_other_exit_may_be_retried(make: Make, tmp_path: Path) -> None:
    with pytest.raises(AirflowException, match="exit code 3") as caught:
        make("raise SystemExit(3)").execute(context())
    assert not isinstance(caught.value, AirflowFailException)


def test_an_old_failure_is_not_taken_for_the_new_one(make: Make, tmp_path: Path) -> None:
    run_directory(tmp_path).write_failure(Failure(stage="train", exit_code=1, reason="earlier"))
    with pytest.raises(AirflowException, match="this one"):
        make("print('this one'); raise SystemExit(3)").execute(context())


def test_out_of_memory_is_called_so(make: Make, tmp_path: Path) -> None:
    with pytest.raises(AirflowException, match="out of memory: it took more than 64Mi") as caught:
        make("x = bytearray(500_000_000)").execute(context())
    assert not isinstance(caught.value, AirflowFailException)
    assert (
        failure(tmp_path).exit_code == 137 and "resources.stages.train" in failure(tmp_path).reason
    )


def test_an_image_that_cannot_be_pulled_is_named(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__TASKS_IMAGE", "127.0.0.1:1/none:1")
    with pytest.raises(AirflowException, match=r"image 127\.0\.0\.1:1/none:1 cannot be pulled"):
        make("").execute(context())
    assert failure(tmp_path).exit_code == 125


def test_a_pod_that_fits_nowhere_says_why(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SCHEDULE_TIMEOUT_SECONDS", "3")
    changes = {"resources.stages": {"train": {"gpu": 7}}}
    with pytest.raises(AirflowException, match=r"unschedulable: .*Insufficient nvidia\.com/gpu"):
        make("", changes).execute(context())
    assert "schedule_timeout_seconds" in failure(tmp_path).reason


def test_a_secret_that_is_not_there_is_named(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_SECRET", "nowhere")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STARTUP_TIMEOUT_SECONDS", "10")
    with pytest.raises(AirflowException, match='secret "nowhere" not found'):
        make("").execute(context())


def test_a_pod_that_the_cluster_refuses_fails_at_once(make: Make, tmp_path: Path) -> None:
    operator = make("", hostname="-no-name-")
    with pytest.raises(AirflowFailException, match=r"the cluster took no pod: .*hostname"):
        operator.execute(context())


def test_a_deleted_pod_is_called_so(make: Make, namespace: str, tmp_path: Path) -> None:
    operator = make(SLEEP)
    killer = threading.Thread(target=delete_when_running, args=[namespace])
    killer.start()
    with pytest.raises(AirflowException, match="was deleted before it was done") as caught:
        operator.execute(context())
    killer.join()
    assert not isinstance(caught.value, AirflowFailException)
    assert failure(tmp_path).exit_code == 143


def delete_when_running(namespace: str) -> None:
    wait_for(lambda: running(namespace))
    kubectl("-n", namespace, "delete", *running(namespace), "--grace-period=1")


def test_an_evicted_pod_is_called_so(make: Make, namespace: str, tmp_path: Path) -> None:
    # more than its volume may hold: the kubelet evicts it
    script = "open('/scratch/x', 'wb').write(bytes(30_000_000)); import time; time.sleep(200)"
    changes = {"resources.stages": {"train": {"ephemeral_storage": "10Mi"}}}
    with pytest.raises(AirflowException, match=r"evicted from \S+: .*scratch"):
        make(script, changes).execute(context())


def test_a_deadline_is_called_so(make: Make, tmp_path: Path) -> None:
    with pytest.raises(AirflowException, match="took longer than stage_timeout_minutes"):
        make(SLEEP, active_deadline_seconds=4).execute(context())


def test_a_task_that_is_ended_takes_its_pod_with_it(
    make: Make, namespace: str, tmp_path: Path
) -> None:
    operator = make(SLEEP)

    def end() -> None:
        wait_for(lambda: running(namespace))
        operator.on_kill()

    killer = threading.Thread(target=end)
    killer.start()
    with pytest.raises(AirflowException, match="ended on request"):
        operator.execute(context())
    killer.join()


GONE = "gone.invalid"
ON_IT = f"spec.nodeName={GONE}"


@pytest.fixture
def dead_node(namespace: str) -> Iterator[str]:
    """A node of which there is only the record: no kubelet ever runs a pod on it."""
    taint = {"key": "only-for", "value": namespace, "effect": "NoSchedule"}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": GONE, "labels": {"only-for": namespace}},
        "spec": {"taints": [taint]},
    }
    room = {"cpu": "1", "memory": "1Gi", "pods": "5", "ephemeral-storage": "1Gi"}
    addresses = [{"type": "Hostname", "address": GONE}]
    status = {"capacity": room, "allocatable": room, "addresses": addresses, **condition("True")}
    try:
        apply(node)
        patch_status(f"nodes/{GONE}", status)
        yield GONE
    finally:
        kubectl("delete", "node", GONE)


def dead_node_tolerations(seconds: int) -> tuple[Toleration, ...]:
    return tuple(
        toleration.model_copy(update={"tolerationSeconds": seconds}) for toleration in _DEAD_NODE
    )


def apply(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    subprocess.run(["kubectl", "apply", "-f", "-"], input=text, text=True, check=True)


def condition(ready: str) -> dict[str, Any]:
    moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    beat = {"lastHeartbeatTime": moment, "lastTransitionTime": moment, "reason": "Test"}
    return {"conditions": [{"type": "Ready", "status": ready, **beat}]}


def patch_status(path: str, status: dict[str, Any]) -> None:
    """Say what a kubelet would say."""
    client = CoreV1Api(new_client_from_config())
    client.api_client.call_api(
        f"/api/v1/{path}/status",
        "PATCH",
        header_params={"Content-Type": "application/merge-patch+json"},
        body={"status": status},
        auth_settings=["BearerToken"],
        _preload_content=False,
    )


def run_on_record_only(namespace: str) -> None:
    """Report the pod as running, as its node did before it went dark."""
    wait_for(lambda: GONE in kubectl("-n", namespace, "get", "pods", "-o", "wide"))
    (pod,) = pods(namespace)
    moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    container = {
        "name": "stage", "ready": True, "restartCount": 0, "image": BASE, "imageID": "",
        "state": {"running": {"startedAt": moment}},
    }  # fmt: skip
    name = pod.removeprefix("pod/")
    patch_status(
        f"namespaces/{namespace}/pods/{name}",
        {"phase": "Running", "startTime": moment, "containerStatuses": [container]},
    )
    patch_status(f"nodes/{GONE}", condition("Unknown"))


def test_a_node_that_is_lost_is_called_so(
    make: Make, namespace: str, dead_node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trusted_retraining.operators.diagnosis.PATIENCE", timedelta(seconds=5))
    monkeypatch.setattr("trusted_retraining.operators.pod_manager.PAUSE_SECONDS", 1.0)
    monkeypatch.setattr("trusted_retraining.pods._DEAD_NODE", dead_node_tolerations(2))
    toleration = {"key": "only-for", "operator": "Exists"}
    changes = {
        "resources.node_selector": {"only-for": namespace},
        "resources.tolerations": [toleration],
    }
    kubelet = threading.Thread(target=run_on_record_only, args=[namespace])
    kubelet.start()
    with pytest.raises(AirflowException, match=f"node lost: node {GONE} does not answer") as caught:
        make(SLEEP, changes).execute(context())
    kubelet.join()
    assert not isinstance(caught.value, AirflowFailException)
    assert failure(tmp_path).exit_code == 137
    # its record goes when the node's does; a node that came back would end the pod by itself
    left = kubectl("-n", namespace, "get", "pods", "-o", "name", f"--field-selector={ON_IT}")
    kubectl("-n", namespace, "delete", *left.split(), "--force", "--grace-period=0")


def test_a_task_that_is_cleared_while_it_runs_gets_a_pod_of_its_own(
    make: Make, namespace: str, tmp_path: Path
) -> None:
    # it takes its time to end: the next attempt is there before it is gone
    slow = SLEEP.replace("lambda *_: sys.exit(143)", "lambda *_: time.sleep(4) or sys.exit(143)")
    for store in (None, StateStore()):
        first = make(slow)
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(first.execute, context(store=store))
            assert wait_for(lambda: running(namespace))
            (old,) = running(namespace)
            first.on_kill()
            commit(tmp_path)
            again = context(attempt=2, store=store)
            make("print('done')").execute(again)
            assert old != f"pod/{again['ti'].pushed['pod_name']}"
            with pytest.raises(AirflowException, match="ended on request"):
                ended.result()


WORKER = """
import sys
sys.path[:0] = [{here!r}]
from test_pod_operator import context, SMALL, Path
from tasks.spec import apply_overrides, load_pipeline
from trusted_retraining.operators.pod import StagePodOperator
from trusted_retraining.settings import Settings
pipeline = apply_overrides(load_pipeline({spec!r}), SMALL)
StagePodOperator(task_id="train", stage="train", pipeline=pipeline, settings=Settings.read(),
                 cmds=["python3", "-c", {script!r}]).execute(context())
"""


def test_a_worker_that_died_finds_its_pod_again(make: Make, namespace: str, tmp_path: Path) -> None:
    script = "import time; print('once', flush=True); time.sleep(15); print('done')"
    repository = Path(__file__).parents[2]
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER.format(
            here=str(Path(__file__).parent), spec=str(repository / "dags/pipelines/demo.yaml"),
            script=script)],
        cwd=repository,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert wait_for(lambda: running(namespace))
    before = pods(namespace)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    commit(tmp_path)
    night = context(attempt=2)
    make(script).execute(night)
    assert before == [f"pod/{night['ti'].pushed['pod_name']}"]


def test_a_pod_that_failed_while_nobody_looked_is_explained(
    make: Make, namespace: str, tmp_path: Path
) -> None:
    store = StateStore()
    operator = make("print('nobody is looking'); raise SystemExit(66)")
    night = context(store=store)
    operator._context = night
    operator.name = operator._set_name(operator.name)
    operator.get_or_create_pod(operator.build_pod_request_obj(night), night)
    assert wait_for(
        lambda: "Failed" in kubectl("-n", namespace, "get", "pods", "-o", "jsonpath={..phase}")
    )
    with pytest.raises(AirflowFailException, match="nobody is looking"):
        make("").execute(context(attempt=2, store=store))


def defer(operator: StagePodOperator, night: dict[str, Any]) -> dict[str, Any]:
    """Run the operator as worker and triggerer do, and return the trigger's event."""
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(night)
    return dict(asyncio.run(first_event(in_triggerer(deferred.value.trigger))))


def in_triggerer(trigger: Any) -> Any:
    """Return the trigger as it arrives in the triggerer."""
    path, arguments = trigger.serialize()
    assert path == f"trusted_retraining.triggers.pod.{type(trigger).__name__}"
    arrived = type(trigger)(**json.loads(json.dumps(arguments, default=str)))
    arrived.trigger_start_time = datetime.now(UTC)
    return arrived


async def first_event(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


def test_deferred_the_manifest_is_the_result_all_the_same(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    commit(tmp_path)
    night = context()
    event = defer(make("print('done')"), night)
    make("").trigger_reentry(night, event)
    assert night["ti"].pushed["return_value"]["digest"] == "d"


def test_deferred_bad_input_fails_at_once(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    night = context()
    event = defer(make("print('row 7'); raise SystemExit(65)"), night)
    with pytest.raises(AirflowFailException, match="row 7"):
        make("").trigger_reentry(night, event)
    assert failure(tmp_path).exit_code == 65


def test_deferred_a_pod_that_fits_nowhere_says_why(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SCHEDULE_TIMEOUT_SECONDS", "3")
    changes = {"resources.stages": {"train": {"gpu": 7}}}
    night = context()
    event = defer(make("", changes), night)
    with pytest.raises(AirflowException, match="unschedulable"):
        make("", changes).trigger_reentry(night, event)


def test_deferred_a_deleted_pod_is_called_so(
    make: Make, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    killer = threading.Thread(target=delete_when_running, args=[namespace])
    killer.start()
    night = context()
    event = defer(make(SLEEP), night)
    killer.join()
    with pytest.raises(AirflowException, match="was deleted before it was done"):
        make("").trigger_reentry(night, event)


def test_deferred_a_cancelled_run_takes_its_pod_with_it(
    make: Make, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    with pytest.raises(TaskDeferred) as deferred:
        make(SLEEP).execute(context())
    assert wait_for(lambda: running(namespace))

    async def cancel() -> None:
        trigger = in_triggerer(deferred.value.trigger)
        waiting = asyncio.create_task(first_event(trigger))
        await asyncio.sleep(1)
        # what the triggerer does when a person ends the task
        await trigger.on_kill()
        waiting.cancel()

    asyncio.run(cancel())
    assert not pods(namespace)


def test_deferred_a_triggerer_that_died_leaves_the_pod_to_the_next(
    make: Make, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    commit(tmp_path)
    night = context()
    with pytest.raises(TaskDeferred) as deferred:
        make("import time; time.sleep(6)").execute(night)

    async def die() -> None:
        waiting = asyncio.create_task(first_event(in_triggerer(deferred.value.trigger)))
        await asyncio.sleep(2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(die())
    (pod,) = pods(namespace)
    event = dict(asyncio.run(first_event(in_triggerer(deferred.value.trigger))))
    assert pod == f"pod/{event['name']}"
    make("").trigger_reentry(night, event)
    assert night["ti"].pushed["return_value"]["digest"] == "d"


@pytest.fixture
def eks(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS as far as the operator asks it: the address of the cluster, which is the one here."""
    account = {"conn_type": "aws", "login": "key", "password": "secret",
               "extra": {"region_name": "us-east-1"}}  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(account))
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__EKS_CLUSTER_NAME", "hospital")

    @contextmanager
    def cluster_of(_: EksHook, eks_cluster_name: str, **__: Any) -> Iterator[str]:
        assert eks_cluster_name == "hospital"
        yield os.environ["KUBECONFIG"]

    monkeypatch.setattr(EksHook, "generate_config_file", cluster_of)


@pytest.mark.usefixtures("eks")
def test_on_eks_the_pod_and_its_ends_are_the_same(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AirflowFailException, match=r"row 7 \(exit code 65\)"):
        make("print('row 7'); raise SystemExit(65)", kind=StageEksPodOperator).execute(context())
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    commit(tmp_path)
    night = context()
    event = defer(make("print('done')", kind=StageEksPodOperator), night)
    make("", kind=StageEksPodOperator).trigger_reentry(night, event)
    assert night["ti"].pushed["return_value"]["digest"] == "d"


GPU = "nvidia.com/gpu"
PRESENT = "nvidia.com/gpu.present"
OVERWRITE = "--overwrite"


@contextmanager
def tainted_card(node: str) -> Iterator[None]:
    """Have the node say that it has a card, keep off all that do not mind it, and undo it all."""
    had = json.loads(kubectl("get", "node", node, "-o", "json"))
    cards = had["status"]["capacity"].get(GPU)
    label = had["metadata"]["labels"].get(PRESENT)
    tainted = any(taint["key"] == GPU for taint in had["spec"].get("taints", ()))
    try:
        if cards is None:
            patch_status(f"nodes/{node}", {"capacity": {GPU: "1"}, "allocatable": {GPU: "1"}})
        if not tainted:
            kubectl("taint", "node", node, f"{GPU}=present:NoSchedule")
        yield
    finally:
        if not tainted:
            kubectl("taint", "node", node, f"{GPU}-")
        kubectl("label", "node", node, f"{PRESENT}={label}" if label else f"{PRESENT}-", OVERWRITE)
        if cards is None:
            patch_status(f"nodes/{node}", {"capacity": {GPU: None}, "allocatable": {GPU: None}})


def test_a_stage_is_on_the_gpu_pool_thanks_to_toleration_and_selector(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__TRUSTED_RETRAINING__NODE_SELECTOR")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SCHEDULE_TIMEOUT_SECONDS", "2")
    (node, *others) = kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
    if others:
        pytest.skip("there are more nodes, one of which might take the pods")
    model = {"resources.stages": {"train": {"gpu": 1}}}
    # for seconds only: nobody else's pods are placed meanwhile
    with tainted_card(node):
        kubectl("label", "node", node, f"{PRESENT}-")
        with pytest.raises(AirflowException, match=r"unschedulable: .*node (selector|affinity)"):
            make("", model).execute(context())
        kubectl("label", "node", node, f"{PRESENT}=true")
        intolerant = model | {"resources.tolerations": []}
        with pytest.raises(AirflowException, match=r"unschedulable: .*taint"):
            make("", intolerant).execute(context())
        commit(tmp_path)
        night = context()
        make("print('on the card')", model).execute(night)
    assert night["ti"].pushed["return_value"]["digest"] == "d"


def test_credentials_that_a_stage_prints_are_masked(
    make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "print('AWS_SECRET_ACCESS_KEY=abcdefgh key AKIAIOSFODNN7EXAMPLE', flush=True)"
    with pytest.raises(AirflowFailException) as caught:
        make(script + "; raise SystemExit(65)").execute(context())
    told = "".join(capfd.readouterr()) + str(caught.value) + failure(tmp_path).reason
    assert "AWS_SECRET_ACCESS_KEY=***" in told
    printed = re.sub(r"(?s)the pod was:.*?^\s*status:", "", told)
    assert "AKIAIOSFODNN7EXAMPLE" not in printed and "abcdefgh" not in printed
