"""The Airflow home of one machine: its configuration, its database, its ``gpu`` pool.

Run as a module it prepares the home; done already, that takes no time. Nothing here imports Airflow
before ``AIRFLOW_HOME`` is set, because Airflow reads it when it is imported.
"""

import base64
import fcntl
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
USER = "admin"
GPU_SLOTS = 1
"""Stages that run the model at a time on one machine."""

UNFINISHED = "unfinished"
"""File in the Airflow home that is there while a night of the command line runs."""

_CREATE = f"""
from airflow.models.pool import Pool
from airflow.utils.db import initdb
initdb()
Pool.create_or_update_pool("gpu", slots={GPU_SLOTS}, include_deferred=True,
    description="stages that run the model; as many slots as GPUs")
"""

_GIVE_UP = """
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, State, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select

given_up = []
with create_session() as session:
    left = select(DagRun).where(
        DagRun.triggered_by == DagRunTriggeredByType.TEST,
        DagRun.state.in_(State.unfinished_dr_states),
    )
    for run in session.scalars(left):
        for task in run.get_task_instances(session=session):
            if task.state is not None and task.state in State.unfinished:
                task.state = TaskInstanceState.FAILED
        run.set_state(DagRunState.FAILED)
        given_up.append((run.dag_id, run.run_id))

# no listener hears of a state that is set in the database
from trusted_retraining.run_end import main
for dag_id, run_id in given_up:
    main([dag_id, run_id, "failed"])
"""


def state_folder() -> Path:
    """Return the folder of everything kept on this machine."""
    return Path(os.environ.get("TRUSTED_RETRAINING_STATE", ROOT / ".local")).absolute()


def enter(state: Path | None = None) -> Path:
    """Render the configuration, point this process and its children at the home, and return it.

    Parameters
    ----------
    state : Path, optional
        Folder of everything kept on this machine; :func:`state_folder` when left out.
    """
    state = state or state_folder()
    home = state / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    # passwords, keys and connections are in there, some in files that Airflow makes
    home.chmod(0o700)
    _render(ROOT / "airflow.cfg.template", home / "airflow.cfg", state)
    password(home)
    os.environ["AIRFLOW_HOME"] = str(home)
    os.environ["AIRFLOW_CONFIG"] = str(home / "airflow.cfg")
    os.environ.setdefault("TRUSTED_RETRAINING_CODE_REVISION", _revision())
    return home


def prepare(state: Path | None = None) -> Path:
    """Enter the home and create its database and pool, unless that is done for this Airflow."""
    from importlib.metadata import version

    home = enter(state)
    stamp = home / "migrated"
    done = f"{version('apache-airflow-core')} gpu={GPU_SLOTS}"
    with (home / "prepare.lock").open("w") as lock:
        # two make commands at the same time: the second waits and finds it done
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == done and (home / "airflow.db").exists():
            return home
        say("Airflow database: migrating")
        _run_in_airflow(_CREATE)
        stamp.write_text(done)
    return home


@contextmanager
def unfinished() -> Iterator[None]:
    """Leave a note while a night runs outside of the scheduler, so that a kill is seen later."""
    note = state_folder() / "airflow" / UNFINISHED
    note.touch()
    yield
    note.unlink(missing_ok=True)


def give_up_unfinished() -> None:
    """Fail the nights of the command line that ended without a word: Ctrl-C, a kill, a power cut.

    In the database they run for ever. They would hold the one active run of their pipeline and the
    slot of the pool ``gpu``, and no later night of any pipeline would get it.
    """
    note = state_folder() / "airflow" / UNFINISHED
    if note.exists():
        say("Airflow database: giving up the night that was interrupted")
        _run_in_airflow(_GIVE_UP)
        note.unlink(missing_ok=True)


def _run_in_airflow(script: str) -> None:
    # in a process of its own: only there can Airflow's chatter be turned down without a trace
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", script],
        env=os.environ | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"},
        check=True,
    )


def password(home: Path) -> str:
    """Return the local user's password; it is made up once."""
    path = home / "passwords.json"
    if not path.exists():
        _write_private(path, json.dumps({USER: secrets.token_urlsafe(12)}) + "\n")
    return str(json.loads(path.read_text())[USER])


def say(text: str) -> None:
    """Print a line of progress at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _revision() -> str:
    """Return the revision of this checkout for the lineage; empty outside of one."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""


def _render(template: Path, target: Path, state: Path) -> None:
    values = {"ROOT": str(ROOT), "STATE": str(state), **_keys(target.parent)}
    text = template.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        _write_private(target, text)


def _keys(home: Path) -> dict[str, str]:
    """Return the secrets of this home; made up once, so that tokens outlive a restart."""
    path = home / "keys.json"
    if not path.exists():
        keys = {
            "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "SECRET_KEY": secrets.token_hex(32),
            "JWT_KEY": secrets.token_hex(32),
        }
        _write_private(path, json.dumps(keys) + "\n")
    return dict(json.loads(path.read_text()))


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, at once or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    draft.replace(path)


if __name__ == "__main__":
    prepare()
