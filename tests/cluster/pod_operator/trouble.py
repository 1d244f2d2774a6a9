"""Trouble for the ground: processes of its own that end and come back, and a store that forgets."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ground.control_plane import start_control_plane
from tests.ground.layout import NETWORK_FILE, NODE
from tests.ground.node import advertise_gpus, start_node
from tests.ground.processes import kubectl, need, stop

ETCD = "http://127.0.0.1:2379"
SYSTEM = ("kube-system", "kserve", "kueue-system")


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Have processes of the ground ended for a while."""
    stop(*names)
    try:
        yield
    finally:
        mend()


def mend() -> None:
    """Start what does not run, and wait until the node is as it was."""
    start_control_plane()
    start_node()
    kubectl("uncordon", NODE)
    condition = '{.status.conditions[?(@.type=="Ready")].status}'
    words = ("get", "node", NODE, "-o", f"jsonpath={condition}{{.spec.taints}}")
    need("the node is ready and has no taint", lambda: kubectl(*words) == "True", 60)
    # a kubelet that starts takes back what no device plugin has told it
    advertise_gpus()
    for namespace, name in (("kube-system", "coredns"), ("kserve", "kserve-controller-manager")):
        ready = ("-n", namespace, "rollout", "status", f"deployment/{name}", "--timeout=120s")
        kubectl(*ready, seconds=130)


def compact() -> None:
    """Have etcd forget everything but the latest."""
    revision = _ask("/v3/maintenance/status", {})["header"]["revision"]
    _ask("/v3/kv/compaction", {"revision": revision, "physical": True})


def others(namespace: str) -> list[str]:
    """Return the pods that are neither the cluster's nor of a namespace."""
    found = json.loads(kubectl("get", "pods", "-A", "-o", "json"))["items"]
    named = [(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in found]
    return [f"{of}/{name}" for of, name in named if of not in (*SYSTEM, namespace)]


def _ask(path: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
    script = (
        "import sys, urllib.request as r; "
        "print(r.urlopen(r.Request(sys.argv[1], data=sys.argv[2].encode())).read().decode())"
    )
    command = ["python3", "-c", script, f"{ETCD}{path}", json.dumps(body)]
    answer = subprocess.run(
        ["nsenter", f"--net={NETWORK_FILE}", *command], check=True, capture_output=True, text=True
    )
    found: dict[str, dict[str, str]] = json.loads(answer.stdout)
    return found
