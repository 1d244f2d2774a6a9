"""Debian's packages."""

import subprocess
from collections.abc import Sequence

from tests.ground.processes import run, say


def install(names: Sequence[str]) -> None:
    """Install those that are missing."""
    states = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    missing = [name for name in names if f"{name} installed" not in states]
    if not missing:
        return
    say(f"installing {' '.join(missing)}")
    run("apt-get", "update", "-qq", seconds=300)
    words = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)
    run("env", "DEBIAN_FRONTEND=noninteractive", *words, seconds=600)
