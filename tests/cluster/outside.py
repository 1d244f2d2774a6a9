"""Addresses beyond the ground's pods that answer: of its node, and of what is outside of it."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.ground.layout import NETWORK, NETWORK_FILE

LISTEN = """
import asyncio, sys
async def main():
    for address in sys.argv[1:]:
        host, _, port = address.rpartition(":")
        await asyncio.start_server(lambda reader, writer: writer.close(), host, int(port))
    print("listening", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
"""Python script that listens at addresses."""

_HERE, _THERE = "192.0.2.1", "192.0.2.2"


@contextmanager
def answering(on_node: set[str], outside: set[str]) -> Iterator[None]:
    """Have addresses answer to the ground's pods, each with its port; they go again in the end.

    Parameters
    ----------
    on_node : set of str
        Addresses with ports at which a program of the node's own answers.
    outside : set of str
        Those to which the node sends what comes from its pods.
    """
    name = f"outside-{uuid.uuid4().hex[:6]}"
    link = name.replace("outside", "out")
    with ExitStack() as stack:
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "delete", name)
        _ip(
            "-n", NETWORK, "link", "add", link, "type", "veth", "peer", "name", "out", "netns", name
        )
        stack.callback(_ip, "-n", NETWORK, "link", "delete", link)
        _ip("-n", NETWORK, "address", "add", f"{_HERE}/30", "dev", link)
        _ip("-n", NETWORK, "link", "set", link, "up")
        _ip("-n", name, "address", "add", f"{_THERE}/30", "dev", "out")
        for device in ("lo", "out"):
            _ip("-n", name, "link", "set", device, "up")
        _ip("-n", name, "route", "add", "default", "via", _HERE)
        for address in _hosts(outside):
            _ip("-n", name, "address", "add", f"{address}/32", "dev", "lo")
            _ip("-n", NETWORK, "route", "add", f"{address}/32", "via", _THERE)
        for address in _hosts(on_node):
            words = (f"{address}/32", "dev", "lo")
            _ip("-n", NETWORK, "address", "add", *words)
            stack.callback(_ip, "-n", NETWORK, "address", "delete", *words)
        _listen(stack, Path("/run/netns") / name, outside)
        _listen(stack, NETWORK_FILE, on_node)
        yield


def _hosts(addresses: set[str]) -> set[str]:
    return {address.rpartition(":")[0] for address in addresses}


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _listen(stack: ExitStack, network: Path, addresses: set[str]) -> None:
    process = subprocess.Popen(
        ["nsenter", f"--net={network}", sys.executable, "-c", LISTEN, *sorted(addresses)],
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
