"""Processes that outlive the command that starts them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.ground.layout import BIN, KUBECONFIG, LOGS, NETWORK_FILE, STATE


class GroundError(Exception):
    """The ground cannot be built or started; one line says why and where to look."""


def say(text: str) -> None:
    """Print progress where it does not mix with the result."""
    sys.stderr.write(f"ground: {text}\n")


def run(*command: str | Path, given: str | None = None, seconds: float = 120) -> str:
    """Return what a command prints.

    Raises
    ------
    GroundError
        It failed or took too long.
    """
    words = [str(word) for word in command]
    try:
        answer = subprocess.run(
            words, input=given, capture_output=True, text=True, timeout=seconds, env=environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GroundError(str(error)) from error
    if answer.returncode != 0:
        raise GroundError(f"{' '.join(words)[:200]}: {answer.stderr.strip()[-2000:]}")
    return answer.stdout


def environment() -> dict[str, str]:
    """Return the variables for commands: what was built comes first, and this cluster is meant."""
    path = f"{BIN}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return os.environ | {"PATH": path, "KUBECONFIG": str(KUBECONFIG)}


def kubectl(*words: str, given: str | None = None, seconds: float = 120) -> str:
    """Return what the ground's own kubectl prints."""
    return run(BIN / "kubectl", *words, given=given, seconds=seconds)


def start(name: str, *command: str | Path, **variables: str) -> None:
    """Start a process in the ground's network, unless it runs; its log is named as it is."""
    if _alive(name):
        return
    words = ["nsenter", f"--net={NETWORK_FILE}", *(str(word) for word in command)]
    with (LOGS / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment() | variables,
            start_new_session=True,
        )
    _pid_file(name).write_text(str(process.pid))


def stop(*names: str, seconds: float = 10) -> None:
    """End processes, all at once; by force those that must be."""
    for force in (signal.SIGTERM, signal.SIGKILL):
        for pid in filter(None, map(_alive, names)):
            # it may have ended by itself since it was looked at
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, force)
        if wait_for(lambda: not any(map(_alive, names)), seconds):
            break
    for name in names:
        _pid_file(name).unlink(missing_ok=True)


def wait_for(condition: Callable[[], object], seconds: float, pause: float = 0.2) -> bool:
    """Return whether a condition came true in time; one that raises a `GroundError` is not true."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return True
        except GroundError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)


def need(what: str, condition: Callable[[], object], seconds: float) -> None:
    """Wait for a condition.

    Raises
    ------
    GroundError
        It did not come true in time.
    """
    if not wait_for(condition, seconds):
        raise GroundError(f"{what}: not within {seconds:.0f} s; see {LOGS}")


def _pid_file(name: str) -> Path:
    return STATE / "run" / f"{name}.pid"


def _alive(name: str) -> int | None:
    try:
        pid = int(_pid_file(name).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    # a number that was given to another process since is none of ours
    ours = str(STATE).encode() in words or str(BIN).encode() in words or b"nsenter" in words
    return pid if ours and state != "Z" else None
