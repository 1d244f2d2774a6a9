"""Run a command and, when it ends or we are told to stop, end everything that it started.

Run as a script of its own between the Airflow task and the stage, with the standard library only.
It stops the command on SIGTERM, and when its standard input closes, which happens however the
Airflow task dies, kill -9 included. On Linux it adopts orphaned descendants, so that a process
which left the group (a daemon, a server in its own session) does not get away either.

Usage: reaper.py GRACE_SECONDS COMMAND...
Exit code: the command's; 128 + N when signal N ended it.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.05


def main(arguments: list[str]) -> int:
    """Run ``arguments[1:]`` and return its exit code."""
    grace = float(arguments[0])
    adopt_orphans()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: _begin_to_stop(grace))
    signal.signal(signal.SIGALRM, lambda *_: _signal(_descendants(), signal.SIGKILL))
    command = subprocess.Popen(arguments[1:], stdin=subprocess.DEVNULL)  # noqa: S603
    threading.Thread(target=_watch_lifeline, daemon=True).start()
    status = _wait_for(command.pid)
    signal.setitimer(signal.ITIMER_REAL, 0)
    end_the_rest(grace)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended, where the system can do that."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _watch_lifeline() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _begin_to_stop(grace: float) -> None:
    _signal(_descendants(), signal.SIGTERM)
    signal.setitimer(signal.ITIMER_REAL, max(grace, _POLL_SECONDS))


def _wait_for(pid: int) -> int:
    """Wait for the command, reaping adopted orphans on the way."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return status


def end_the_rest(grace: float) -> None:
    """End every process under us, or what the command left behind: first asked, then killed."""
    for signum, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + seconds
        rest = _descendants()
        _signal(rest, signum)
        while rest and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            _reap()
            rest = _descendants()
        if not rest:
            return


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _descendants() -> list[int]:
    """Return the processes under us; none on systems without /proc, where the operator ends our
    process group after us."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # the name, in parentheses, may itself hold spaces and parentheses
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, pending = [], [os.getpid()]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def _signal(processes: list[int], signum: signal.Signals) -> None:
    for pid in processes:
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
