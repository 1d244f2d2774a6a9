"""Everything at once on one machine: Airflow, the MLflow UI and the model server, on loopback.

One Ctrl-C ends all of it. Each part runs under the reaper of the local operator, so that it ends
with everything it started even if this process is killed.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.spec.gate import Deploy
from trusted_retraining.local import home, stack_file

REAPER = Path(__file__).parents[1] / "operators/reaper.py"
GRACE_SECONDS = 8.0
READY_SECONDS = 240.0
DEFAULT_PORTS = {"AIRFLOW_PORT": 8080, "MLFLOW_PORT": 5000, "SERVING_PORT": 8081}
"""Environment variable to the port used unless it says otherwise; 0, or a taken one: any other."""


@dataclass(kw_only=True)
class Part:
    """One process of the stack.

    Attributes
    ----------
    name : str
        What it is called in messages, and its log file's stem.
    command : list of str
    environment : dict of str to str
        Variables beside our own.
    ready : callable
        Tells whether it does its work.
    """

    name: str
    command: list[str]
    ready: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def log(self) -> Path:
        """Return the file that holds what it says."""
        return home.state_folder() / "logs" / f"{self.name.replace(' ', '-')}.log"

    def start(self) -> None:
        """Start it under the reaper; its standard input is our lifeline to it."""
        self.log().parent.mkdir(parents=True, exist_ok=True)
        reaper = [sys.executable, "-I", "-S", str(REAPER), str(GRACE_SECONDS)]
        with self.log().open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603
                [*reaper, *self.command],
                env=os.environ | self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_dead(self) -> bool:
        """Tell whether it has ended."""
        return self.process is not None and self.process.poll() is not None

    def last_words(self) -> str:
        """Return the end of its log."""
        lines = self.log().read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line[:200]}" for line in lines[-15:])


class _Ended(Exception):
    """Somebody wants the stack to end."""


def main() -> int:
    """Start everything, wait for a signal or a death, end everything; return the exit code."""
    running = stack_file.read()
    if running is not None:
        home.say(stack_file.in_words(running, "look"))
        return 1
    home.prepare()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _raise_ended)
    code = 0
    parts: list[Part] = []
    try:
        addresses = _addresses()
        running = stack_file.occupy(addresses)
        if running is not None:
            raise RuntimeError(stack_file.in_words(running, "look"))
        home.give_up_unfinished()
        parts = _parts(addresses)
        for part in parts:
            part.start()
        _wait_until_ready(parts)
        _announce(addresses)
        _watch(parts)
    except _Ended:
        home.say("ending")
    except RuntimeError as error:
        home.say(str(error))
        code = 1
    finally:
        _end(parts)
        stack_file.release()
    return code


def _raise_ended(*_: object) -> None:
    # once: an impatient second Ctrl-C must not leave half of it running
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    raise _Ended


def _addresses() -> dict[str, str]:
    ports = {name: _port(name, default) for name, default in DEFAULT_PORTS.items()}
    return {
        "airflow": f"http://127.0.0.1:{ports['AIRFLOW_PORT']}",
        "mlflow": f"http://127.0.0.1:{ports['MLFLOW_PORT']}",
        "serving": f"http://127.0.0.1:{ports['SERVING_PORT']}",
    }


def _port(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit() or int(text) > 65535:
        raise RuntimeError(f"{name}={text!r} is not a port: 1 to 65535, or 0 for any free one")
    chosen = int(text)
    for port in (chosen, 0):
        with socket.socket() as probe:
            # as servers do: a port that was in use a moment ago is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                home.say(f"port {port} is taken, another one is used; {name}=... chooses one")
                continue
            return int(probe.getsockname()[1])
    raise RuntimeError("no free port on 127.0.0.1")


def _parts(addresses: dict[str, str]) -> list[Part]:
    from trusted_retraining.settings import Settings

    settings = Settings.read()
    airflow_url, port = addresses["airflow"], addresses["airflow"].rsplit(":", 1)[1]
    environment = {
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__API__BASE_URL": airflow_url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{airflow_url}/execution/",
        "AIRFLOW__TRUSTED_RETRAINING__MLFLOW_UI": addresses["mlflow"],
        "AIRFLOW__TRUSTED_RETRAINING__SERVER_URL": addresses["serving"],
    }

    def airflow(command: str, ready: Callable[[], bool], *more: str) -> Part:
        return Part(
            name=f"airflow {command}",
            command=[sys.executable, "-m", "airflow", command, *more],
            environment=environment,
            ready=ready,
        )

    def healthy(part: str) -> Callable[[], bool]:
        url = f"{airflow_url}/api/v2/monitor/health"
        return lambda: (_get(url).get(part) or {}).get("status") == "healthy"

    Path(settings.serving_root).mkdir(parents=True, exist_ok=True)
    return [
        Part(
            name="mlflow",
            command=_mlflow_command(settings.mlflow_uri, settings.mlflow_artifacts, addresses),
            ready=lambda: _answers(f"{addresses['mlflow']}/health"),
        ),
        Part(
            name="model server",
            command=[
                *(settings.serving_python, "-m", "tasks.serving.server"),
                *("--root", settings.serving_root, "--host", "127.0.0.1"),
                *("--port", addresses["serving"].rsplit(":", 1)[1]),
                *("--memory", _server_memory(settings)),
            ],
            environment={"PYTHONPATH": str(home.ROOT)},
            ready=lambda: _answers(f"{addresses['serving']}/v2/health/live"),
        ),
        airflow("api-server", healthy("metadatabase"), "--host", "127.0.0.1", "--port", port),
        airflow("scheduler", healthy("scheduler")),
        airflow("dag-processor", healthy("dag_processor")),
        airflow("triggerer", healthy("triggerer")),
    ]


def _server_memory(settings: Any) -> str:
    """Return what the one server of all pipelines may take: as much as the one that needs most."""
    from trusted_retraining.pipelines import read_pipelines

    pipelines, _ = read_pipelines(settings.pipelines)
    wanted = [each.deploy.memory for each in pipelines.values()] or [Deploy().memory]
    return max(wanted, key=lambda text: float(text[:-2]) * (1024 if text.endswith("Gi") else 1))


def _mlflow_command(uri: str, artifacts: str, addresses: dict[str, str]) -> list[str]:
    """Return the command of an MLflow server that shows the very store that the stages write to."""
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
        *("--port", addresses["mlflow"].rsplit(":", 1)[1], "--backend-store-uri", uri),
        # experiments name their own artifact folder, which the server reads from the disk
        *("--no-serve-artifacts", "--default-artifact-root", artifacts),
    ]


def _wait_until_ready(parts: list[Part]) -> None:
    home.say("starting " + ", ".join(part.name for part in parts))
    started, waiting = time.monotonic(), list(parts)
    while waiting:
        _check(parts)
        for part in [part for part in waiting if part.ready()]:
            home.say(f"  {part.name}: ready after {time.monotonic() - started:.0f} s")
            waiting.remove(part)
        if time.monotonic() - started > READY_SECONDS:
            names = ", ".join(part.name for part in waiting)
            raise RuntimeError(f"not ready after {READY_SECONDS:.0f} s: {names}; see .local/logs")
        time.sleep(0.5)


def _announce(addresses: dict[str, str]) -> None:
    password = home.password(home.state_folder() / "airflow")
    home.say(
        f"\n  Airflow       {addresses['airflow']}   user {home.USER}   password {password}\n"
        f"  MLflow        {addresses['mlflow']}\n"
        f"  Model server  {addresses['serving']}   (models: /v1/models)\n"
        f"  Logs          {home.state_folder() / 'logs'}\n\n"
        "demo runs every night; switch on any other pipeline in Airflow. Ctrl-C ends all"
    )


def _watch(parts: list[Part]) -> None:
    while True:
        _check(parts)
        time.sleep(0.5)


def _check(parts: list[Part]) -> None:
    for part in parts:
        if part.is_dead():
            raise RuntimeError(
                f"{part.name} has ended; the others are ended too. Its last lines, of "
                f"{part.log()}:\n{part.last_words()}"
            )


def _end(parts: list[Part]) -> None:
    started = [part.process for part in parts if part.process is not None]
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(timeout=2 * GRACE_SECONDS + 10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with _OPENER.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _get(url: str) -> dict[str, dict[str, str]]:
    try:
        with _OPENER.open(url, timeout=5) as response:
            return dict(json.load(response))
    except (OSError, ValueError):
        return {}


# loopback is not reached through a proxy
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

if __name__ == "__main__":
    sys.exit(main())
