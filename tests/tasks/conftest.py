"""Servers that tests of several folders need."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL of our own: Debian's package, a cluster in a folder, a port on loopback.

    Role ``mlflow`` owns it and needs no password; every role named ``films`` does.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    binaries = Path(found[-1]) if found else Path(shutil.which("initdb") or "none").parent
    if not (binaries / "initdb").exists():
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # it refuses to run as root
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user:
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"

    def call(*words: str | Path) -> None:
        subprocess.run(words, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)

    call(binaries / "initdb", "-D", data, "-U", "mlflow", "-A", "trust", "--no-sync")
    rules = data / "pg_hba.conf"
    rules.write_text(f"host all films 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    call(binaries / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
    try:
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
    finally:
        call(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def made_up_evidence() -> Iterator[None]:
    """Judge nights that no stage has computed: their figures and settings are a test's own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tasks.stages.bless.evidence_problems", lambda *_: [])
        yield
