"""Ends the ground: `python -m tests.ground.down`. Nothing of it stays but what was built."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.ground.control_plane import CONTROL_PLANE
from tests.ground.layout import CONTAINERD_SOCKET, STATE
from tests.ground.network import disconnect
from tests.ground.node import CNI_NETWORK, NODE_PROCESSES, cgroups, ctr
from tests.ground.processes import GroundError, say, stop, wait_for


def down() -> None:
    """End processes and pods, remove mounts, network, cgroups and folders."""
    # first what would start pods anew, then the pods, then what they run on
    stop("provisioner", *NODE_PROCESSES, *CONTROL_PLANE)
    _end_pods()
    stop("containerd")
    _end_shims()
    disconnect()
    if not wait_for(_unmount, 20):
        raise GroundError(f"still mounted below {STATE}: {', '.join(_mounts())}")
    wait_for(_remove_cgroups, 10)
    for path in Path("/var/lib/cni/results").glob(f"{CNI_NETWORK}-*"):
        path.unlink()
    for link in Path("/var/log/containers").glob("*"):
        if link.is_symlink() and os.readlink(link).startswith(str(STATE)):
            link.unlink()
    shutil.rmtree(STATE, ignore_errors=True)


def _end_pods() -> None:
    if not CONTAINERD_SOCKET.exists():
        return
    try:
        for container in ctr("tasks", "list", "--quiet").split():
            subprocess.run(
                [
                    "ctr",
                    "-a",
                    str(CONTAINERD_SOCKET),
                    "-n",
                    "k8s.io",
                    "tasks",
                    "rm",
                    "-f",
                    container,
                ],
                capture_output=True,
                timeout=60,
            )
    except (GroundError, subprocess.TimeoutExpired) as error:
        say(str(error))


def _end_shims() -> None:
    """End the shims that containerd left; they name its socket."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words and b"containerd-shim" in words[0] and str(CONTAINERD_SOCKET).encode() in words:
            os.kill(int(path.parent.name), signal.SIGKILL)


def _mounts() -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    paths = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    return sorted((path for path in paths if path.startswith(f"{STATE}/")), reverse=True)


def _unmount() -> bool:
    for path in _mounts():
        subprocess.run(["umount", path], capture_output=True)
    return not _mounts()


def _remove_cgroups() -> bool:
    roots = [root for root in cgroups() if root.is_dir()]
    for root in roots:
        folders = [path for path in root.rglob("*") if path.is_dir()]
        for folder in (*sorted(folders, reverse=True), root):
            # one whose last process is only just ending is still in use
            with contextlib.suppress(OSError):
                folder.rmdir()
    return not any(root.is_dir() for root in roots)


def main() -> int:
    """End it."""
    try:
        down()
    except (GroundError, OSError) as error:
        sys.stderr.write(f"ground: {error}\n")
        return 70
    return 0


if __name__ == "__main__":
    sys.exit(main())
