"""The ground's network: a namespace of its own, and one cable to the machine."""

import subprocess
from pathlib import Path

from tests.ground.layout import (
    HOST_IP,
    HOST_LINK,
    NETWORK,
    NETWORK_FILE,
    NODE_IP,
    NODE_LINK,
    POD_RANGE,
    SERVICE_RANGE,
)
from tests.ground.processes import run


def connect() -> None:
    """Make the namespace, and let the machine reach nodes, pods and Services through it."""
    if NETWORK_FILE.exists():
        return
    run("ip", "netns", "add", NETWORK)
    run("ip", "link", "add", HOST_LINK, "type", "veth", "peer", "name", NODE_LINK, "netns", NETWORK)
    run("ip", "address", "add", f"{HOST_IP}/30", "dev", HOST_LINK)
    run("ip", "link", "set", HOST_LINK, "up")
    run("ip", "-n", NETWORK, "link", "set", "lo", "up")
    run("ip", "-n", NETWORK, "address", "add", f"{NODE_IP}/30", "dev", NODE_LINK)
    run("ip", "-n", NETWORK, "link", "set", NODE_LINK, "up")
    run("ip", "-n", NETWORK, "route", "add", "default", "via", HOST_IP)
    for addresses in (POD_RANGE, SERVICE_RANGE):
        run("ip", "route", "add", addresses, "via", NODE_IP)
    # without the second, traffic between pods of one bridge passes the firewall by
    for setting in ("ipv4/ip_forward", "bridge/bridge-nf-call-iptables"):
        path = Path("/proc/sys/net") / setting
        run("nsenter", f"--net={NETWORK_FILE}", "sh", "-c", f"echo 1 >{path}")


def disconnect() -> None:
    """Remove the namespace; links, routes, firewall rules and address sets go with it."""
    # deleting a namespace returns before its links have gone
    subprocess.run(["ip", "link", "delete", HOST_LINK], capture_output=True)
    if NETWORK_FILE.exists():
        run("ip", "netns", "delete", NETWORK)
