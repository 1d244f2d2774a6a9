"""Every way in which a pod ends is told by its name, and none is left behind.

The operator, its pod and the cluster are real; only the command in the container is a script of the
test's, which does what a stage would not do at a test's wish.
"""

import threading
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tasks.contract import Failure
from tests.cluster.pod_operator.attempts import (
    ON_CLUSTER,
    SLEEP,
    Make,
    commit,
    context,
    delete_when_running,
    failure,
    run_directory,
    running,
)
from tests.waiting import wait_for

pytestmark = ON_CLUSTER


def test_the_manifest_in_storage_is_the_result(make: Make, tmp_path: Path) -> None:
    commit(tmp_path)
    night = context(attempt=2)
    make("import sys; print(sys.argv[1:3])").execute(night)
    assert night["ti"].pushed["return_value"]["stage"] == "train"
    assert night["ti"].pushed["pod_name"].startswith("demo-train-")


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
