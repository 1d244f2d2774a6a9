"""A model server for one version, for as long as it is asked."""

import json
import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.contract import StageError
from tasks.serving.client import ServerClient
from tasks.serving.files import Pointer
from tasks.serving.limits import MI, Limits

log = logging.getLogger("tasks")

_REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def probe_server(
    *,
    python: Path,
    root: Path,
    model: str,
    pointer: Pointer,
    startup_seconds: float,
    limits: Limits | None = None,
) -> Iterator[ServerClient]:
    """Serve one version on a free loopback port; yields a client once it answers for it.

    The server ends with the block, and with this process however that ends.

    Parameters
    ----------
    python : Path
        Interpreter of the serving environment.
    root : Path
        Folder of the served models.
    model : str
        Name it is served under.
    pointer : Pointer
        Version, digest and folder.
    startup_seconds : float
        Time it has to become ready.
    limits : Limits, optional
        Bounds on requests, as they will be in service.

    Raises
    ------
    StageError
        There is no serving environment, or the server does not get ready; its last words are told.
    """
    if not python.exists():
        raise StageError(
            f"{python}: no serving environment; make it (make up, make demo) or set "
            "TRUSTED_RETRAINING_SERVING_PYTHON"
        )
    with tempfile.TemporaryDirectory() as scratch:
        port_file, log_file = Path(scratch) / "port.json", Path(scratch) / "server.log"
        limits = limits or Limits()
        only = "=".join([model, pointer.path, pointer.version, pointer.digest])
        with log_file.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                [
                    *(str(python), "-m", "tasks.serving.server", "--root", str(root)),
                    *("--only", only, "--port", "0", "--port-file", str(port_file)),
                    *("--memory", f"{limits.memory // MI}Mi"),
                    *("--max-pixels", str(limits.pixels), "--ends-with-stdin"),
                ],
                env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # its own group, so that ending it ends whatever it started
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + startup_seconds
            url = _wait_for_address(process, port_file, log_file, deadline)
            with ServerClient(url) as client:
                client.wait_until_served(
                    model, pointer.digest, seconds=max(1.0, deadline - time.monotonic())
                )
                yield client
        finally:
            _end(process)


def _wait_for_address(
    process: "subprocess.Popen[bytes]", port_file: Path, log_file: Path, deadline: float
) -> str:
    while time.monotonic() < deadline:
        if port_file.exists():
            return str(json.loads(port_file.read_text(encoding="utf-8"))["url"])
        if process.poll() is not None:
            raise StageError(
                f"the model server ended with exit code {process.returncode}: {_tail(log_file)}"
            )
        time.sleep(0.05)
    raise StageError(f"the model server was not ready in deploy.startup_seconds: {_tail(log_file)}")


def _tail(log_file: Path) -> str:
    lines = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " | ".join(lines[-3:])[-600:] or "it said nothing"


def _end(process: "subprocess.Popen[bytes]") -> None:
    for signum, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        if process.poll() is not None:
            break
        try:
            os.killpg(process.pid, signum)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    if process.stdin is not None:
        process.stdin.close()
