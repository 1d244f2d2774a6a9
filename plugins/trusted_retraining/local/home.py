"""The Airflow home of one machine: its configuration, its database, its ``gpu`` pool.

Run as a module it prepares the home; done already, that takes no time. Nothing here imports Airflow
before ``AIRFLOW_HOME`` is set, because Airflow reads it when it is imported.
"""

import base64
import json
import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
USER = "admin"
GPU_SLOTS = 1
"""Stages that run the model at a time on one machine."""


def state_folder() -> Path:
    """Return the folder of everything kept on this machine."""
    return Path(os.environ.get("TRUSTED_RETRAINING_STATE", ROOT / ".local")).absolute()


def enter() -> Path:
    """Render the configuration, point this process and its children at the home, and return it."""
    home = state_folder() / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    _render(ROOT / "airflow.cfg.template", home / "airflow.cfg")
    password(home)
    os.environ["AIRFLOW_HOME"] = str(home)
    os.environ["AIRFLOW_CONFIG"] = str(home / "airflow.cfg")
    return home


def prepare() -> Path:
    """Enter the home and create its database and pool, unless that is done for this Airflow."""
    from importlib.metadata import version

    home = enter()
    stamp = home / "migrated"
    done = f"{version('apache-airflow-core')} gpu={GPU_SLOTS}"
    if stamp.exists() and stamp.read_text() == done and (home / "airflow.db").exists():
        return home
    say("Airflow database: migrating")
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb

    initdb()
    Pool.create_or_update_pool(
        "gpu",
        slots=GPU_SLOTS,
        description="stages that run the model; as many slots as GPUs",
        include_deferred=True,
    )
    stamp.write_text(done)
    return home


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


def _render(template: Path, target: Path) -> None:
    values = {"ROOT": str(ROOT), "STATE": str(state_folder()), **_keys(target.parent)}
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
