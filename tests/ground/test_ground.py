"""The ground is what it says: its admission, names, firewall, volumes and KServe are real."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.kubectl import kubectl, own_namespace
from tests.ground.layout import BIN, DOMAIN, KUBECONFIG, NODE
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster

AGNHOST = "localhost/ground/agnhost:1"
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module", autouse=True)
def ground() -> Iterator[None]:
    """Skip without the ground, and use its own kubectl."""
    if os.environ.get("KUBECONFIG") != str(KUBECONFIG):
        pytest.skip(f"no ground: KUBECONFIG is not {KUBECONFIG}; see tests/ground/README.md")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
        try:
            kubectl("get", "--raw", "/readyz", "--request-timeout=10s")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no ground: {error.stderr.strip()[:200]}")
        yield


@pytest.fixture
def namespace() -> Iterator[str]:
    """Return a namespace in which `restricted` is enforced."""
    with own_namespace("ground") as name:
        kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        yield name


def _pod(name: str, *arguments: str, **container: Any) -> dict[str, Any]:
    main = {
        "name": "main",
        "image": AGNHOST,
        "imagePullPolicy": "Never",
        "args": list(arguments) or ["pause"],
        "securityContext": RESTRICTED,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            "containers": [main | container],
        },
    }


def _create(namespace: str, thing: dict[str, Any], *words: str) -> str:
    return kubectl("-n", namespace, "create", "--validate=strict", *words, "-f", "-", given=thing)


def _refusal(namespace: str, thing: dict[str, Any]) -> str:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        _create(namespace, thing)
    return str(refused.value.stderr)


def _ready(namespace: str, *things: str, condition: str = "Ready") -> None:
    kubectl("-n", namespace, "wait", f"--for=condition={condition}", "--timeout=90s", *things)


def _connects(namespace: str, address: str) -> bool:
    words = ("exec", "client", "--", "/agnhost", "connect", address, "--timeout=2s")
    return subprocess.run(["kubectl", "-n", namespace, *words], capture_output=True).returncode == 0


@pytest.fixture
def conversation(namespace: str) -> str:
    """Return a namespace with a pod `client`, and a pod `server` behind a Service."""
    _create(namespace, _pod("client"))
    _create(namespace, _pod("server", "netexec", "--http-port=8080", "--udp-port=-1"))
    kubectl("-n", namespace, "expose", "pod", "server", "--port=80", "--target-port=8080")
    _ready(namespace, "pod/client", "pod/server")
    return namespace


def test_a_restricted_namespace_refuses_a_privileged_pod(namespace: str) -> None:
    refusal = _refusal(namespace, _pod("much", securityContext={"privileged": True}))
    assert 'violates PodSecurity "restricted' in refusal


def test_an_unknown_field_is_refused(namespace: str) -> None:
    refusal = _refusal(namespace, _pod("mistyped", immagePullPolicy="Never"))
    assert 'unknown field "spec.containers[0].immagePullPolicy"' in refusal


def test_a_pod_finds_a_service_by_its_name(conversation: str) -> None:
    assert wait_for(lambda: _connects(conversation, "server:80"), 20)
    assert _connects(conversation, f"server.{conversation}.svc.{DOMAIN}:80")
    assert not _connects(conversation, "nobody:80")


def test_a_network_policy_refuses_a_connection_that_was_possible(conversation: str) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody"},
        "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]},
    }
    assert wait_for(lambda: _connects(conversation, "server:80"), 20)
    _create(conversation, policy)
    assert wait_for(lambda: not _connects(conversation, "server:80"), 20)
    kubectl("-n", conversation, "delete", "networkpolicy", "nobody")
    assert wait_for(lambda: _connects(conversation, "server:80"), 20)


def test_a_pod_with_a_gpu_runs_and_one_too_many_waits(namespace: str) -> None:
    for name, count in (("one", 1), ("many", 1000)):
        _create(namespace, _pod(name, resources={"limits": {"nvidia.com/gpu": count}}))
    _ready(namespace, "pod/one")
    words = ("-n", namespace, "get", "pod", "many", "-o", "jsonpath={.status.conditions}")
    assert wait_for(lambda: "Insufficient nvidia.com/gpu" in kubectl(*words))


def test_a_claim_is_bound_to_a_volume_that_can_be_written(namespace: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "claim"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    pod = _pod("writer", volumeMounts=[{"name": "volume", "mountPath": "/volume"}])
    pod["spec"]["containers"][0]["args"] = ["mounttest", "--new_file_0660=/volume/file"]
    pod["spec"]["volumes"] = [{"name": "volume", "persistentVolumeClaim": {"claimName": "claim"}}]
    _create(namespace, claim)
    _create(namespace, pod)
    kubectl(
        *("-n", namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s"),
        "pod/writer",
    )
    assert kubectl("-n", namespace, "get", "pvc", "claim", "-o", "jsonpath={.status.phase}") == (
        "Bound"
    )


def _inference_service(**container: Any) -> dict[str, Any]:
    served = {
        "name": "kserve-container",
        "image": AGNHOST,
        "imagePullPolicy": "Never",
        "args": ["netexec", "--http-port=8080", "--udp-port=-1"],
        "securityContext": RESTRICTED,
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "served"},
        "spec": {"predictor": {"containers": [served | container]}},
    }


def test_kserve_fills_in_limits_and_refuses_what_cannot_be(namespace: str) -> None:
    limit = "jsonpath={.spec.predictor.containers[0].resources.limits.cpu}"
    assert _create(namespace, _inference_service(), "--dry-run=server", "-o", limit) == "1"
    nothing = _inference_service()
    nothing["spec"] = {"predictor": {"minReplicas": 2, "maxReplicas": 1}}
    assert "denied the request" in _refusal(namespace, nothing)


def test_kserve_runs_an_inference_service(namespace: str) -> None:
    _create(namespace, _inference_service())
    _ready(namespace, "inferenceservice/served")
    pods = ("-n", namespace, "get", "pods", "-o", "jsonpath={.items[*].status.phase}")
    assert kubectl(*pods) == "Running"


def test_the_server_says_which_kubernetes_it_is() -> None:
    version = kubectl("get", "node", NODE, "-o", "jsonpath={.status.nodeInfo.kubeletVersion}")
    assert version.startswith("v1.36.")
