"""The commands of one machine: who may use the state folder, what they refuse, who may read it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.spec import SpecError, parse_overrides
from trusted_retraining.local import home, night, stack_file, up


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRUSTED_RETRAINING_STATE", str(tmp_path))
    return tmp_path


@pytest.fixture
def other(state: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that uses the state folder."""
    script = (
        "import sys; from trusted_retraining.local import stack_file; "
        "stack_file.occupy({'night': 'demo'}); print('has it', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "has it\n"
    yield process
    process.kill()
    process.communicate()


def test_a_free_state_folder_can_be_taken_and_given_back(state: Path) -> None:
    assert stack_file.read() is None
    assert stack_file.occupy({"airflow": "http://127.0.0.1:8080"}) is None
    assert json.loads((state / "stack.json").read_text())["airflow"] == "http://127.0.0.1:8080"
    stack_file.release()
    assert not (state / "stack.json").exists() and stack_file.read() is None


def test_one_that_is_in_use_is_refused_with_who_uses_it(
    other: "subprocess.Popen[str]",
) -> None:
    note = stack_file.occupy({"night": "demo_biased"})
    assert note == {"pid": other.pid, "night": "demo"}
    words = stack_file.in_words(note, "trigger demo_biased")
    assert words.startswith(f"a night of demo is running (process {other.pid}): wait for its end")


def test_a_killed_user_leaves_nothing_locked(other: "subprocess.Popen[str]", state: Path) -> None:
    other.kill()
    other.wait()
    # its note is still there, and its process number may belong to anyone by now
    assert (state / "stack.json").exists() and stack_file.read() is None


def test_two_commands_at_once_wait_for_each_other(
    other: "subprocess.Popen[str]", capfd: pytest.CaptureFixture[str]
) -> None:
    assert night.main(["demo_biased"]) == 64
    assert up.main() == 1
    lines = [line for line in capfd.readouterr().out.splitlines() if "running" in line]
    assert len(lines) == 2 and all("a night of demo is running" in line for line in lines)


@pytest.mark.parametrize("words", [["--source", "no/such/folder"], ["--source", "no-such.zip"]])
def test_a_source_that_is_not_there_is_refused_before_the_night(words: list[str]) -> None:
    options = night._parser().parse_args(["demo", *words])
    with pytest.raises(SpecError, match=r"no such file or folder .*give the path of one, or an"):
        night._overrides(options)


def test_a_source_is_an_absolute_path_or_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "films").mkdir()
    monkeypatch.chdir(tmp_path)
    for word, uri in [("films", str(tmp_path / "films")), ("s3://bucket/x", "s3://bucket/x")]:
        options = night._parser().parse_args(["demo", "--source", word])
        assert night._overrides(options) == {"source.uri": uri}


def test_overrides_are_words_as_in_a_shell() -> None:
    options = night._parser().parse_args(["demo", "--settings", "train.epochs=15 a.b='x y'"])
    assert night._overrides(options) == parse_overrides(["train.epochs=15", "a.b=x y"])


def test_a_quote_left_open_is_told_with_the_words() -> None:
    options = night._parser().parse_args(["demo", "--settings", "a.b='x"])
    with pytest.raises(SpecError, match=r"SET=a\.b='x: No closing quotation; quote values"):
        night._overrides(options)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.4\n', "Python 3.10.4"),
        (None, "not to be found"),
    ],
)
def test_another_python_gets_one_line_that_says_so(
    script: str | None, found: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    if script:
        python.write_text(script)
        python.chmod(0o755)
    answer = subprocess.run(
        [home.ROOT / ".ci/find-python"],
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1 and answer.stdout == ""
    assert answer.stderr == (
        f"Python 3.11 to 3.13 is needed; {python} is: {found}. Set PYTHON=/path/to/python3.12\n"
    )


def test_only_the_owner_may_look_into_the_airflow_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AIRFLOW_HOME", "AIRFLOW_CONFIG"):
        monkeypatch.setenv(name, os.environ[name])
    folder = home.enter(tmp_path / "state")
    assert folder.stat().st_mode & 0o077 == 0
    for name in ("passwords.json", "keys.json", "airflow.cfg"):
        assert (folder / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("port", ["many", "-1", "70000", ""])
def test_a_wrong_port_is_refused_by_name(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_PORT", port)
    with pytest.raises(RuntimeError, match=f"MLFLOW_PORT='{port}' is not a port"):
        up._port("MLFLOW_PORT", 5000)


def test_the_model_server_may_take_what_the_largest_pipeline_needs(tmp_path: Path) -> None:
    text = "name: {0}\nsource: {{kind: synthetic}}\nlabel: {{column: finding}}\n"
    settings = SimpleNamespace(pipelines=tmp_path)
    assert up._server_memory(settings) == "2Gi"
    for name, memory in (("small", "1024Mi"), ("large", "3Gi"), ("middle", "2500Mi")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.format(name) + f"deploy: {{memory: {memory}}}\n")
    assert up._server_memory(settings) == "3Gi"
