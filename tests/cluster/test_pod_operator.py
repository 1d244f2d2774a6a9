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
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from tasks.contract import Failure, Manifest, RunDirectory, run_uri
from tasks.spec import apply_overrides, load_pipeline
from trusted_retraining.operators.pod import StagePodOperator
from trusted_retraining.settings import Settings

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("cluster"),
]

IMAGE = os.environ.get("TEST_CLUSTER_IMAGE", "localhost/python:3.11-slim-bookworm")
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
    yield name
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
        "TASKS_IMAGE": IMAGE,
        "IMAGE_PULL_POLICY": "IfNotPresent",
        "NODE_SELECTOR": "{}",
        "TERMINATION_GRACE_SECONDS": "5",
        "POLL_SECONDS": "1",
    }
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", '{"conn_type": "kubernetes"}')

    def operator(script: str, changes: dict[str, Any] | None = None, **more: Any) -> Any:
        pipeline = load_pipeline(Path(__file__).parents[2] / "dags/pipelines/demo.yaml")
        return StagePodOperator(
            task_id="train",
            stage="train",
            pipeline=apply_overrides(pipeline, SMALL | (changes or {})),
            settings=Settings.read(),
            cmds=["python3", "-c", script],
            **more,
        )

    yield operator
    left = wait_for(lambda: not pods(namespace), 60)
    assert left, f"pods were left: {pods(namespace)}"


def pods(namespace: str) -> list[str]:
    return kubectl("-n", namespace, "get", "pods", "-o", "name").split()


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
    path, arguments = deferred.value.trigger.serialize()
    assert path == "trusted_retraining.triggers.pod.StagePodTrigger"
    trigger = type(deferred.value.trigger)(**json.loads(json.dumps(arguments, default=str)))
    trigger.trigger_start_time = datetime.now(UTC)

    async def first() -> Any:
        async for event in trigger.run():
            return event.payload
        return None

    return dict(asyncio.run(first()))


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
