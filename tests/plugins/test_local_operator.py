"""The local operator runs a real process, streams it, translates its end and leaves nothing."""

import getpass
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from tasks.contract import Failure, Manifest, RunDirectory, now
from tasks.spec import load_pipeline
from tests.waiting import wait_for
from trusted_retraining.operators.local import REAPER, LocalStageOperator
from trusted_retraining.operators.stage import requested_by
from trusted_retraining.settings import Settings

Make = Callable[..., LocalStageOperator]


@pytest.fixture
def context() -> dict[str, Any]:
    return {"run_id": "manual__1", "params": {}}


@pytest.fixture
def make(tmp_path: Path, pipelines_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a maker of operators whose stage is a script of the test's."""
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", str(tmp_path / "runs"))

    def operator(script: str, grace_seconds: float = 5.0) -> LocalStageOperator:
        path = tmp_path / "stage.py"
        path.write_text(textwrap.dedent(script))
        return LocalStageOperator(
            task_id="train",
            stage="train",
            pipeline=load_pipeline(pipelines_folder / "demo.yaml"),
            settings=Settings.read(),
            command=[sys.executable, str(path)],
            grace_seconds=grace_seconds,
        )

    return operator


def run_directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(f"{tmp_path}/runs/demo/runs/manual__1")


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def started(path: Path) -> int:
    assert wait_for(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def test_the_committed_manifest_is_the_result(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    operator = make("print('done')")
    run = run_directory(tmp_path)
    manifest = Manifest(stage="train", fingerprint="f", location=run.stage_uri("train")).sealed()
    run.write_manifest(manifest)
    result = operator.execute(context)
    assert result["stage"] == "train" and result["digest"] == manifest.digest


def test_a_stage_that_commits_nothing_has_not_succeeded(
    make: Make, context: dict[str, Any]
) -> None:
    with pytest.raises(AirflowException, match="left no manifest"):
        make("print('done')").execute(context)


def test_lines_reach_the_log_as_they_are_printed(
    make: Make, context: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "go-on"
    lines: list[tuple[str, bool]] = []

    class Log:
        def info(self, template: str, *values: object) -> None:
            lines.append((template % values, release.exists()))
            release.touch()

        def warning(self, *_: object) -> None:
            """Airflow remarks that no task runner is around."""

        error = info

    operator = make(
        f"""
        import pathlib, sys, time
        print("epoch 1")
        while not pathlib.Path({str(release)!r}).exists():
            time.sleep(0.01)
        print("epoch 2", file=sys.stderr)
        sys.exit(1)
        """
    )
    monkeypatch.setattr(type(operator), "log", Log())
    with pytest.raises(AirflowException):
        operator.execute(context)
    # the second line is only printed once the first one has been logged
    assert lines[:2] == [("epoch 1", False), ("epoch 2", True)]


@pytest.mark.parametrize("exit_code", [64, 65, 66, 78])
def test_bad_input_is_not_retried(make: Make, context: dict[str, Any], exit_code: int) -> None:
    with pytest.raises(AirflowFailException, match=f"exit code {exit_code}"):
        make(f"raise SystemExit({exit_code})").execute(context)


@pytest.mark.parametrize("exit_code", [1, 2, 63, 79, 137])
def test_anything_else_may_be_retried(make: Make, context: dict[str, Any], exit_code: int) -> None:
    with pytest.raises(AirflowException, match=f"exit code {exit_code}") as caught:
        make(f"raise SystemExit({exit_code})").execute(context)
    assert not isinstance(caught.value, AirflowFailException)


def test_the_stages_own_reason_is_the_error(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    failure = Failure(stage="train", exit_code=65, reason="row 7: no such image", at=now())
    path = tmp_path / "runs/demo/runs/manual__1/train/failure.json"
    operator = make(
        f"""
        import pathlib
        path = pathlib.Path({str(path)!r})
        path.parent.mkdir(parents=True)
        path.write_text({failure.model_dump_json()!r})
        raise SystemExit(65)
        """
    )
    with pytest.raises(AirflowFailException, match="train: row 7: no such image"):
        operator.execute(context)
    assert run_directory(tmp_path).read_failure("train") == failure


def test_a_killed_stage_is_recorded_and_retried(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(AirflowException, match="exit code 137") as caught:
        make("import os; os.kill(os.getpid(), 9)").execute(context)
    assert not isinstance(caught.value, AirflowFailException)
    failure = run_directory(tmp_path).read_failure("train")
    assert failure is not None and failure.exit_code == 137 and "signal 9" in failure.reason


def test_a_stage_that_cannot_even_start_is_quoted_without_its_credentials(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    stage = make(
        """
        print("at work")
        raise ModuleNotFoundError("No module named 'films'; password='hunter22'")
        """
    )
    with pytest.raises(AirflowException, match=r"last line: ModuleNotFoundError.*'films'") as told:
        stage.execute(context)
    failure = run_directory(tmp_path).read_failure("train")
    assert failure is not None and "No module named 'films'" in failure.reason
    assert "hunter22" not in failure.reason + str(told.value)


def test_an_old_failure_is_not_taken_for_the_new_one(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    run = run_directory(tmp_path)
    run.write_failure(Failure(stage="train", exit_code=1, reason="of the first attempt"))
    with pytest.raises(AirflowException, match="signal 9"):
        make("import os; os.kill(os.getpid(), 9)").execute(context)


def test_a_wrong_override_fails_at_once_and_names_the_field(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    context["params"] = {"train.epoch": 3}
    with pytest.raises(AirflowFailException, match=r"train\.epoch: no such field"):
        make("").execute(context)
    failure = run_directory(tmp_path).read_failure("train")
    assert failure is not None and failure.exit_code == 78 and "train.epoch" in failure.reason


def test_what_stands_before_the_first_attempt_is_not_the_stages_own(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    run = run_directory(tmp_path)
    put_there = Manifest(stage="train", fingerprint="f", location=run.stage_uri("train"))
    for attempt, stands in ((2, True), (1, False)):
        run.write_manifest(put_there.sealed())
        context["ti"] = SimpleNamespace(try_number=attempt)
        if stands:
            assert make("").execute(context)["stage"] == "train"
        else:
            with pytest.raises(AirflowException, match="left no manifest"):
                make("").execute(context)


class StateStore(dict[str, Any]):
    """What Airflow keeps for all attempts of a task of a run."""

    def __init__(self) -> None:
        self.retentions: list[Any] = []

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self[key] = value
        self.retentions.append(retention)


def test_a_worker_that_died_before_it_began_leaves_nothing_to_the_next_attempt(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    run = run_directory(tmp_path)
    put_there = Manifest(stage="train", fingerprint="f", location=run.stage_uri("train"))
    run.write_manifest(put_there.sealed())
    # what the first attempt would have withdrawn
    store = StateStore()
    context |= {"ti": SimpleNamespace(try_number=2), "task_state_store": store}
    with pytest.raises(AirflowException, match="left no manifest"):
        make("").execute(context)
    # and what an attempt that had begun has committed is the task's own
    run.write_manifest(put_there.sealed())
    context["ti"] = SimpleNamespace(try_number=3)
    assert make("").execute(context)["stage"] == "train"
    # also when the night is cleared later than Airflow forgets by itself
    assert store.retentions == [NEVER_EXPIRE]


def test_the_stage_gets_the_night_as_one_document(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    context["params"] = {"train.epochs": 3, "force": True}
    operator = make("import sys, json; print(json.dumps(sys.argv[1:])); sys.exit(1)")
    arguments = operator.stage_arguments(context)
    assert arguments[:2] == ["train", "--run-uri"]
    assert load_pipeline(arguments[arguments.index("--spec") + 1]).train.epochs == 3
    assert arguments[-1] == "--no-cache"
    assert "--set train.epochs=3" in operator.by_hand(context)


def argument(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_the_stage_gets_the_file_beside_what_was_made_of_it_and_who_asked(
    make: Make, context: dict[str, Any]
) -> None:
    context["params"] = {"blessing.rules": [{"metric": "evaluate.accuracy", "min": 0}]}
    context["dag_run"] = SimpleNamespace(triggering_user_name="ann")
    operator = make("")
    arguments = operator.stage_arguments(context)
    assert load_pipeline(argument(arguments, "--file")) == operator.pipeline
    assert len(load_pipeline(argument(arguments, "--spec")).blessing.rules) == 1
    assert argument(arguments, "--requested-by") == "ann"
    assert "not deployed (blessing.rules)" in operator.not_deployed(context)


@pytest.mark.parametrize(
    ("user", "asked"), [(None, ""), ("", ""), ("admin", "admin"), ("dag_test", getpass.getuser())]
)
def test_who_triggered_a_run_is_known(user: str | None, asked: str) -> None:
    """The schedule has no user; a run of the command line is that of whoever is logged in."""
    assert requested_by({"dag_run": SimpleNamespace(triggering_user_name=user)}) == asked
    assert requested_by({}) == ""


@pytest.mark.parametrize(
    "params",
    [
        {"deploy": {"model_name": "other"}},
        {"train.architecture": "subprocess:call"},
        {"source": {"kind": "custom", "reader": "os:system"}},
        {"train.weights": "http://169.254.169.254/latest"},
    ],
    ids=json.dumps,
)
def test_what_a_trigger_may_not_change_ends_the_task_before_a_process_starts(
    make: Make, context: dict[str, Any], tmp_path: Path, params: dict[str, Any]
) -> None:
    context["params"] = params
    started = tmp_path / "started"
    with pytest.raises(AirflowFailException, match=next(iter(params)).split(".")[0]):
        make(f"open({str(started)!r}, 'w')").execute(context)
    assert not started.exists()
    failure = run_directory(tmp_path).read_failure("train")
    assert failure is not None and failure.exit_code == 78


def test_an_address_that_the_installation_allows_may_be_triggered(
    make: Make, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__ALLOWED_ADDRESSES", "s3://a/, https://host/w")
    operator = make("")
    context["params"] = {"train.weights": "https://host/w/1.h5"}
    assert operator.tonight(context).train.weights == "https://host/w/1.h5"
    allowed = operator.environment()["TRUSTED_RETRAINING_ALLOWED_ADDRESSES"]
    assert allowed.split(",") == ["s3://a/", "https://host/w", "/"]
    context["params"] = {"train.weights": "https://host/weights/1.h5"}
    with pytest.raises(AirflowFailException, match="allowed_addresses"):
        operator.tonight(context)


FAMILY = """
    import os, pathlib, signal, subprocess, sys, time
    folder = pathlib.Path({folder!r})
    sleep = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", sleep])
    (folder / "child").write_text(f"{{child.pid}}\\n")
    # a daemon: a session of its own, its parent gone
    daemon = subprocess.run(
        [sys.executable, "-c", "import subprocess, sys; "
         f"p = subprocess.Popen([sys.executable, '-c', {{sleep!r}}], start_new_session=True, "
         "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(p.pid)"],
        stdout=subprocess.PIPE, text=True)
    (folder / "daemon").write_text(daemon.stdout)
    (folder / "stage").write_text(f"{{os.getpid()}}\\n")
    {end}
"""


@pytest.mark.parametrize("how", ["on_kill", "stage killed", "reaper killed", "stage ends"])
def test_nothing_that_the_stage_started_survives_it(
    make: Make, context: dict[str, Any], tmp_path: Path, how: str
) -> None:
    end = "sys.exit(3)" if how == "stage ends" else "time.sleep(600)"
    operator = make(FAMILY.format(folder=str(tmp_path), end=end), grace_seconds=0.5)
    errors: list[BaseException] = []

    def execute() -> None:
        try:
            operator.execute(context)
        except AirflowException as error:
            errors.append(error)

    task = threading.Thread(target=execute)
    task.start()
    processes = [started(tmp_path / name) for name in ("child", "daemon", "stage")]
    if how == "on_kill":
        operator.on_kill()
    elif how == "stage killed":
        os.kill(processes[2], signal.SIGKILL)
    elif how == "reaper killed":
        assert operator._process is not None
        operator._process.kill()
        # the daemon has left the group, and only the reaper knew it
        os.kill(processes.pop(1), signal.SIGKILL)
    task.join(timeout=30)
    assert not task.is_alive() and len(errors) == 1
    assert wait_for(lambda: not any(map(is_running, processes)))


def test_the_stage_ends_when_the_airflow_task_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "stage"
    stage = (
        f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(f'{{os.getpid()}}\\n');"
        "time.sleep(600)"
    )
    task = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time; "
            f"subprocess.Popen([sys.executable, '-IS', {str(REAPER)!r}, '1', sys.executable, '-c', "
            f"{stage!r}], stdin=subprocess.PIPE, start_new_session=True); time.sleep(600)",
        ]
    )
    pid = started(note)
    task.kill()
    task.wait()
    assert wait_for(lambda: not is_running(pid))


def test_a_timeout_ends_the_stage_and_is_recorded(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    class Timeout(BaseException):
        pass

    def expire(*_: object) -> None:
        raise Timeout("after 1 s")

    operator = make(FAMILY.format(folder=str(tmp_path), end="time.sleep(600)"), grace_seconds=0.5)
    former = signal.signal(signal.SIGALRM, expire)
    threading.Thread(
        target=lambda: (started(tmp_path / "stage"), os.kill(os.getpid(), signal.SIGALRM))
    ).start()
    try:
        with pytest.raises(Timeout):
            operator.execute(context)
    finally:
        signal.signal(signal.SIGALRM, former)
    processes = [started(tmp_path / name) for name in ("child", "daemon", "stage")]
    assert not any(map(is_running, processes))
    failure = run_directory(tmp_path).read_failure("train")
    assert failure is not None and failure.exit_code == 143 and "after 1 s" in failure.reason


def test_a_stage_gets_none_of_airflows_keys_and_connections(
    make: Make, context: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://user:secret@host/db")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TRUSTED_RETRAINING_SERVED", "none")
    note = tmp_path / "environment.json"
    operator = make(
        f"""
        import json, os, pathlib
        pathlib.Path({str(note)!r}).write_text(json.dumps(dict(os.environ)))
        raise SystemExit(1)
        """
    )
    with pytest.raises(AirflowException):
        operator.execute(context)
    variables = json.loads(note.read_text())
    assert not [name for name in variables if name.startswith("AIRFLOW")]
    assert variables["NO_PROXY"] == "127.0.0.1" and "TRUSTED_RETRAINING_STATE" in variables
    # what serves is told by argument
    assert variables["TRUSTED_RETRAINING_SERVED"] == ""
