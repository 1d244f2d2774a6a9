"""Starts the ground: `python -m tests.ground.up [TIER]`; the last line is its KUBECONFIG.

What runs already is left alone, so that a higher tier can be added to a ground that is up.

With KSERVE=no in the environment KServe is left out: for tests with stand-ins of it, and for what a
cluster without it is told.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.ground import addons, images, kueue
from tests.ground.certificates import certify
from tests.ground.components import COMPONENTS, find
from tests.ground.control_plane import start_control_plane
from tests.ground.layout import BIN, IMAGES, KUBECONFIG, LOGS, NODE, PKI, STATE
from tests.ground.network import connect
from tests.ground.node import advertise_gpus, ctr, start_containerd, start_firewall, start_node
from tests.ground.processes import GroundError, kubectl, need, say


def up(tier: int, *, kserve: bool) -> None:
    """Start what does not run, and wait until a pod would start."""
    wanted = [name for c in COMPONENTS if c.tier <= tier for name in c.names]
    missing = [name for name in wanted if not (BIN / name).exists()]
    if missing:
        raise GroundError(f"not built: {', '.join(missing)}; run make ground TIER={tier}")
    for folder in (STATE, STATE / "run", LOGS, PKI):
        folder.mkdir(parents=True, exist_ok=True)
    # keys and volumes lie below
    STATE.chmod(0o711)
    PKI.chmod(0o700)
    connect()
    certify()
    start_containerd()
    # gigabytes: beside the rest, which mostly waits
    with ThreadPoolExecutor(1) as beside:
        loaded = beside.submit(_load_more)
        _start(tier, kserve=kserve)
        say("waiting for the images")
        loaded.result()


def _load_more() -> None:
    for archive in sorted(IMAGES.glob("more/*.tar")):
        ctr("images", "import", archive, seconds=900)


def _start(tier: int, *, kserve: bool) -> None:
    start_control_plane()
    for image in images.ALL:
        if image.tier <= tier:
            ctr("images", "import", image.archive)
    start_node()
    addons.start_dns()
    addons.start_storage()
    start_firewall()
    if kserve:
        addons.start_kserve(find("kserve"))
    need("the node is ready", _node_is_ready, 60)
    advertise_gpus()
    addons.wait_for_dns()
    if kserve:
        addons.wait_for_kserve()
    if tier >= 2:
        kueue.start(find("kueue"))


def _node_is_ready() -> bool:
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    return kubectl("get", "node", NODE, "-o", f"jsonpath={path}") == "True"


def main() -> int:
    """Start it and print the KUBECONFIG."""
    if os.getuid() != 0:
        sys.stderr.write("ground: only root can have a network namespace, mounts and cgroups\n")
        return 77
    began = time.monotonic()
    try:
        up(int(sys.argv[1]) if len(sys.argv) > 1 else 1, kserve=os.environ.get("KSERVE") != "no")
    except GroundError as error:
        sys.stderr.write(f"ground: {error}\n")
        return 70
    say(f"up after {time.monotonic() - began:.0f} s")
    sys.stdout.write(f"{KUBECONFIG}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
