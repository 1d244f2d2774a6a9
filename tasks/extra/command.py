"""Runs a foreign program on this machine, with its lines in the log and nothing of ours leaked."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tasks.contract import BadConfig, StageError, command_line, protocol_variables
from tasks.extra.exchange import Exchange
from tasks.spec import ExtraStage, Pipeline

log = logging.getLogger("tasks")

_PASSED_ON = (
    *("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
)
"""Variables that a program may need and that hold no secret."""

_CREDENTIALS = {"storage": "AWS_", "mlflow": "MLFLOW_"}
"""What the variables with our own credentials begin with."""

GRACE_SECONDS = 5.0
"""Time that a program has to end itself once it is told to."""

MINUTE = 60.0
"""Seconds."""

_LINE_BYTES = 8192


class CommandFailed(StageError):
    """The program ended with an exit code other than 0, which is handed on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_command(extra: ExtraStage, exchange: Exchange, *, pipeline: Pipeline, run_id: str) -> None:
    """Run the program to its end.

    Parameters
    ----------
    extra : ExtraStage
        As in the pipeline file.
    exchange : Exchange
        Its folders.
    pipeline : Pipeline
        The night's.
    run_id : str
        The run's.

    Raises
    ------
    CommandFailed
        It ended with another exit code than 0; 64 to 78 mean bad input, as for our own stages.
    StageError
        It took too long.
    BadConfig
        There is no command, or no such program.
    """
    if not extra.command:
        raise BadConfig(
            f"extra_stages: {extra.name}: there is only an image, which needs a cluster; give a "
            "command for this machine, or use runtime kubernetes"
        )
    words = command_line(extra, inputs=str(exchange.inputs), outputs=str(exchange.outputs))
    variables = _variables(extra, exchange, pipeline=pipeline, run_id=run_id)
    minutes = extra.timeout_minutes or pipeline.stage_timeout_minutes
    log.info("%s: running %s", extra.name, words[0])
    exit_code, last, late = _run(words, variables, seconds=MINUTE * minutes)
    if late:
        raise StageError(f"took longer than timeout_minutes, {minutes}")
    if exit_code:
        told = f"its last line was: {last}" if last else "it printed nothing"
        raise CommandFailed(f"{words[0]} ended with exit code {exit_code}; {told}", exit_code)


def _variables(
    extra: ExtraStage, exchange: Exchange, *, pipeline: Pipeline, run_id: str
) -> dict[str, str]:
    begins = tuple(_CREDENTIALS[name] for name in extra.credentials)
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name in extra.inherit or (begins and name.startswith(begins))
    }
    own = str(Path(sys.executable).parent)
    return passed | {
        # "python" is the stages' own where nothing else is said
        "PATH": f"{own}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(exchange.home),
        "PYTHONUNBUFFERED": "1",
        **extra.env,
        **protocol_variables(
            extra,
            inputs=str(exchange.inputs),
            outputs=str(exchange.outputs),
            pipeline=pipeline.name,
            run_id=run_id,
        ),
    }


def _run(
    words: Sequence[str], variables: Mapping[str, str], *, seconds: float
) -> tuple[int, str, bool]:
    """Return exit code, last line, and whether time ran out."""
    try:
        process = subprocess.Popen(  # noqa: S603
            words,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise BadConfig(f"{words[0]} cannot be run: {error.strerror}; see its command") from error
    late = threading.Event()

    def end() -> None:
        late.set()
        _end(process)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    last = ""
    assert process.stdout is not None  # noqa: S101
    try:
        while raw := process.stdout.readline(_LINE_BYTES):
            line = raw.decode("utf-8", "replace").rstrip()
            log.info("%s", line)
            last = line.strip() or last
        exit_code = process.wait()
    finally:
        # also when this very process is told to end, or the program left others behind
        timer.cancel()
        _end(process)
        process.stdout.close()
    return exit_code if exit_code >= 0 else 128 - exit_code, last, late.is_set()


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_SECONDS)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: "subprocess.Popen[bytes]", signum: signal.Signals) -> None:
    # its group, which is that of its session: what it has started too
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signum)
