"""The node: containerd, kubelet, kube-proxy, and the firewall that enforces NetworkPolicies."""

import json
import shutil
from pathlib import Path
from string import Template

from tests.ground.certificates import CA
from tests.ground.layout import (
    BIN,
    CGROUP,
    CONTAINERD_SOCKET,
    DNS_IP,
    DOMAIN,
    FOLDER,
    KUBECONFIG,
    NODE,
    NODE_IP,
    PKI,
    POD_RANGE,
    SERVICE_RANGE,
    STATE,
)
from tests.ground.processes import kubectl, need, run, start

NODE_PROCESSES = ("kubelet", "kube-router", "kube-proxy")
PAUSE = "localhost/ground/pause:1"
CNI_NETWORK = "ground-pods"


def start_containerd() -> None:
    """Start a containerd of the ground's own."""
    text = (FOLDER / "manifests" / "containerd.toml").read_text()
    values = {"state": STATE, "socket": CONTAINERD_SOCKET, "pause": PAUSE}
    values["runc"] = shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/bin") or "runc"
    (STATE / "containerd.toml").write_text(Template(text).substitute(values))
    start("containerd", "containerd", "--config", STATE / "containerd.toml")
    need("containerd answers", lambda: ctr("version"), 30)


def ctr(*words: str | Path, seconds: float = 300) -> str:
    """Return what containerd's client says of the namespace that the kubelet uses."""
    return run("ctr", "-a", CONTAINERD_SOCKET, "-n", "k8s.io", *words, seconds=seconds)


def start_node() -> None:
    """Start the kubelet and what else a node has; it is ready some seconds later."""
    _make_cgroup()
    _write_network()
    (STATE / "resolv.conf").write_text(f"nameserver {DNS_IP}\n")
    (STATE / "kubelet.json").write_text(json.dumps(_kubelet(), indent=1))
    start(
        "kubelet",
        BIN / "kubelet",
        f"--config={STATE / 'kubelet.json'}",
        f"--kubeconfig={PKI / 'kubelet.kubeconfig'}",
        f"--root-dir={STATE / 'kubelet'}",
        f"--cert-dir={PKI}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_IP}",
    )
    start(
        "kube-proxy",
        BIN / "kube-proxy",
        f"--kubeconfig={KUBECONFIG}",
        "--proxy-mode=iptables",
        f"--hostname-override={NODE}",
        f"--cluster-cidr={POD_RANGE}",
        # limits of connection tracking stay as the machine has them
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        # a rule that lags a second behind is a refused connection
        "--iptables-min-sync-period=0s",
    )


def start_firewall() -> None:
    """Start what enforces NetworkPolicies; it wants the node to be known."""
    need("the node registers", lambda: kubectl("get", "node", NODE), 60)
    start(
        "kube-router",
        BIN / "kube-router",
        f"--kubeconfig={KUBECONFIG}",
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        "--run-loadbalancer=false",
        f"--hostname-override={NODE}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
    )


def advertise_gpus(count: int = 4) -> None:
    """Let the node say that it has GPUs, for the scheduler; there are none."""
    path = "/status/capacity/nvidia.com~1gpu"
    patch = [{"op": "add", "path": path, "value": str(count)}]
    words = ("patch", "node", NODE, "--subresource=status", "--type=json")
    kubectl(*words, "-p", json.dumps(patch))


def cgroups() -> list[Path]:
    """Return the ground's folder in each hierarchy of cgroups.

    Two kubelets of one machine would otherwise remove each other's pods.
    """
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root / CGROUP]
    return [folder / CGROUP for folder in sorted(root.iterdir()) if folder.is_dir()]


def _make_cgroup() -> None:
    for folder in cgroups():
        folder.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            # version 1: no process may enter a set of no CPUs
            if (folder / name).exists() and not (folder / name).read_text().strip():
                (folder / name).write_text((folder.parent / name).read_text())


def _write_network() -> None:
    ranges = [[{"subnet": POD_RANGE}]]
    ipam = {
        "type": "host-local",
        "dataDir": str(STATE / "addresses"),
        "ranges": ranges,
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": False}
    plugins = [bridge | {"hairpinMode": True, "ipam": ipam}]
    content = {"cniVersion": "0.4.0", "name": CNI_NETWORK, "plugins": plugins}
    folder = STATE / "cni"
    folder.mkdir(exist_ok=True)
    (folder / "10-pods.conflist").write_text(json.dumps(content, indent=1))


def _kubelet() -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(CA)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(PKI / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(PKI / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_IP],
        "clusterDomain": DOMAIN,
        "resolvConf": str(STATE / "resolv.conf"),
        "podLogsDir": str(STATE / "pod-logs"),
        # an image that is removed cannot be had again: there is no registry
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
    }
