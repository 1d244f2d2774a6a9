"""Pods that stand for everyone in a table of who reaches whom, and try it."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.cluster.images import BASE
from tests.cluster.kubectl import kubectl
from tests.cluster.outside import LISTEN
from tests.cluster.own_names import renamed
from tests.kubernetes.connections import NAMES, Row
from tests.kubernetes.kustomization import Object
from tests.kubernetes.network import Peer, Pod
from tests.waiting import wait_for

CONNECT = """
import asyncio, json, socket, sys
async def works(address):
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(4):
            if not host:
                await asyncio.get_running_loop().getaddrinfo(port, None)
            else:
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
    except (OSError, TimeoutError):
        return False
    return True
async def main():
    print(json.dumps(await asyncio.gather(*map(works, sys.argv[1:]))))
asyncio.run(main())
"""
"""Python script that opens connections, and resolves names: ``:name`` instead of an address."""

LABEL = "trusted-retraining/test"


class Field:
    """Pods, at most two for each peer of a table.

    Parameters
    ----------
    rows : list
        Table whose peers are wanted, with their ports.
    """

    def __init__(self, rows: list[Row]) -> None:
        self.suffix = f"-reach-{uuid.uuid4().hex[:6]}"
        self._pods: dict[str, Pod] = {}
        self._addresses: dict[str, str] = {}
        self._ports = sorted({port for _, _, port, _ in rows})
        peers = [peer for row in rows for peer in row[:2] if isinstance(peer, Pod)]
        for peer in peers:
            if peer != NAMES and peer not in self._pods.values():
                self._pods[f"pod-{len(self._pods)}"] = peer
        # a pod always reaches itself
        for peer in [peer for peer in peers if (peer, peer) in [row[:2] for row in rows]]:
            self._pods[f"{self._name(peer)}-other"] = peer

    @property
    def namespaces(self) -> frozenset[str]:
        """Return the namespaces of the pods, as the files call them."""
        return frozenset(pod.namespace for pod in self._pods.values())

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Make namespaces and pods, and remove them in the end."""
        try:
            self._make()
            yield
        finally:
            kubectl("delete", "namespace", "-l", f"{LABEL}={self.suffix[1:]}", "--wait=false")

    def put(self, objects: list[Object]) -> None:
        """Have the network policies of some objects, and no others."""
        label = {LABEL: self.suffix[1:]}
        policies = [
            renamed(one, self.namespaces, self.suffix)
            for one in objects
            if one["kind"] == "NetworkPolicy"
        ]
        for policy in policies:
            policy["metadata"]["labels"] = label
        kubectl("delete", "networkpolicies", "-A", "-l", f"{LABEL}={self.suffix[1:]}")
        _apply(policies)

    def outcomes(self, rows: list[Row], *, real: dict[str, str]) -> list[bool]:
        """Return for each row whether the connection was possible.

        Parameters
        ----------
        rows : list
            The table; what it says is not looked at.
        real : dict
            Addresses of this cluster for those that the table names.
        """

        def address(source: Peer, target: Peer, port: int) -> str:
            if isinstance(target, str):
                return f"{real.get(target, target)}:{port}"
            name = self._name(target)
            return f"{self._addresses[f'{name}-other' if source == target else name]}:{port}"

        return self._ask([(source, address(source, target, p)) for source, target, p, _ in rows])

    def resolve(self, pods: list[Pod], name: str) -> list[bool]:
        """Return for each pod whether it is told the address of a name."""
        return self._ask([(pod, f":{name}") for pod in pods])

    def _ask(self, questions: list[tuple[Peer, str]]) -> list[bool]:
        by_source: dict[str, list[int]] = {}
        for number, (source, _) in enumerate(questions):
            assert isinstance(source, Pod)
            by_source.setdefault(self._name(source), []).append(number)

        def ask(name: str) -> dict[int, bool]:
            numbers = by_source[name]
            said = kubectl(
                *("-n", self._pods[name].namespace + self.suffix, "exec", name, "--"),
                *("python3", "-c", CONNECT, *(questions[number][1] for number in numbers)),
            )
            return dict(zip(numbers, json.loads(said), strict=True))

        with ThreadPoolExecutor(4) as pool:
            found = {k: v for answers in pool.map(ask, by_source) for k, v in answers.items()}
        return [found[number] for number in range(len(questions))]

    def _name(self, peer: Pod) -> str:
        if peer == NAMES:
            return "names"
        return next(name for name, pod in self._pods.items() if pod == peer)

    def _make(self) -> None:
        doors = {pod.namespace: pod.namespace_labels for pod in self._pods.values()}
        _apply([self._namespace(name, labels) for name, labels in doors.items()])
        accounts = ("get", "serviceaccounts", "-A", "--field-selector=metadata.name=default")
        assert wait_for(lambda: kubectl(*accounts, "--no-headers").count(self.suffix) == len(doors))
        _apply([self._pod(name, peer) for name, peer in self._pods.items()])
        assert wait_for(self._all_have_addresses, 90)

    def _namespace(self, name: str, labels: dict[str, str]) -> dict[str, Any]:
        own = {key: value for key, value in labels.items() if "metadata.name" not in key}
        own[LABEL] = self.suffix[1:]
        metadata = {"name": name + self.suffix, "labels": own}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}

    def _pod(self, name: str, peer: Pod) -> dict[str, Any]:
        container = {
            "name": "main",
            "image": BASE,
            "command": ["python3", "-c", LISTEN, *(f"0.0.0.0:{port}" for port in self._ports)],
            "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": peer.namespace + self.suffix,
                "labels": peer.labels | {LABEL: self.suffix[1:]},
            },
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": False,
                # others may taint the node for a moment
                "tolerations": [{"operator": "Exists"}],
                "dnsConfig": {
                    "options": [
                        {"name": "timeout", "value": "1"},
                        {"name": "attempts", "value": "1"},
                    ]
                },
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                    # ports below 1024
                    "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
                },
                "containers": [container],
            },
        }

    def _all_have_addresses(self) -> bool:
        words = ("get", "pods", "-A", "-o", "json", "-l")
        ours = json.loads(kubectl(*words, f"{LABEL}={self.suffix[1:]}"))["items"]
        dns = json.loads(kubectl(*words, "k8s-app=kube-dns"))["items"]
        running = [pod for pod in ours if pod["status"]["phase"] == "Running"]
        self._addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in running}
        self._addresses["names"] = dns[0]["status"]["podIP"]
        return len(running) == len(self._pods)


def _apply(objects: list[dict[str, Any]]) -> None:
    given = {"apiVersion": "v1", "kind": "List", "items": objects}
    kubectl("apply", "--server-side", "-f", "-", given=given)
