"""What runs on the cluster: DNS, storage, KServe."""

import base64
import json
from pathlib import Path
from typing import Any

import yaml

from tests.ground.certificates import CA
from tests.ground.components import Component, module
from tests.ground.layout import BIN, FOLDER, KUBECONFIG, PKI, STATE
from tests.ground.processes import kubectl, need, run, start

MANIFESTS = FOLDER / "manifests"


def apply(objects: list[dict[str, Any]] | str) -> None:
    """Apply objects, or those of a text."""
    text = objects if isinstance(objects, str) else yaml.safe_dump_all(objects)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=text)


def render(chart: str, charts: Path, namespace: str, values: str | None = None) -> str:
    """Return the objects of a chart, with the values of a file of `manifests/`."""
    more = ["--values", str(MANIFESTS / values)] if values else []
    return run(BIN / "helm", "template", chart, charts / chart, "--namespace", namespace, *more)


def rolled_out(namespace: str, name: str, seconds: int = 120) -> None:
    """Wait until a Deployment's pods are ready."""
    words = ("rollout", "status", f"deployment/{name}", f"--timeout={seconds}s")
    kubectl("-n", namespace, *words, seconds=seconds + 10)


def start_dns() -> None:
    """Start CoreDNS."""
    apply((MANIFESTS / "dns.yaml").read_text())


def start_storage() -> None:
    """Make the default StorageClass, and start what makes its volumes."""
    apply((MANIFESTS / "storage.yaml").read_text())
    root = STATE / "volumes"
    root.mkdir(exist_ok=True)
    start("provisioner", BIN / "provisioner", f"--kubeconfig={KUBECONFIG}", f"--root={root}")


def start_kserve(component: Component) -> None:
    """Install KServe from the charts of its Go module, with certificates of the ground's own."""
    charts = module(component) / "charts"
    apply(render("kserve-crd", charts, "kserve"))
    kinds = ("inferenceservices", "servingruntimes", "clusterstoragecontainers", "trainedmodels")
    names = [f"crd/{kind}.serving.kserve.io" for kind in kinds]
    words = ("wait", "--for=condition=Established", "--timeout=5s", *names)
    # again and again: kubectl gives up on a definition that has no conditions yet
    need("KServe's kinds are known", lambda: kubectl(*words), 60)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "kserve-webhook-server-cert", "namespace": "kserve"},
        "data": {
            "tls.crt": base64.b64encode((PKI / "kserve.crt").read_bytes()).decode(),
            "tls.key": base64.b64encode((PKI / "kserve.key").read_bytes()).decode(),
        },
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}}
    apply([namespace, secret])
    rendered = render("kserve-resources", charts, "kserve", "kserve-values.yaml")
    things = [thing for thing in yaml.safe_load_all(rendered) if thing]
    apply([_fitting(thing) for thing in things if "cert-manager" not in thing["apiVersion"]])


def wait_for_dns() -> None:
    """Wait until names are answered."""
    rolled_out("kube-system", "coredns")


def wait_for_kserve() -> None:
    """Wait until KServe's webhooks answer."""
    rolled_out("kserve", "kserve-controller-manager")
    # a Service leads to a ready pod some moments after it has become ready
    need("KServe's webhook answers", _webhook_answers, 30)


def _webhook_answers() -> bool:
    container = {"name": "kserve-container", "image": "localhost/none:1"}
    probe = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "probe", "namespace": "default"},
        "spec": {"predictor": {"containers": [container]}},
    }
    kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(probe))
    return True


def _fitting(thing: dict[str, Any]) -> dict[str, Any]:
    """Return an object of KServe's as it can be here, without cert-manager and without a proxy."""
    for hook in thing.get("webhooks", []):
        hook["clientConfig"]["caBundle"] = base64.b64encode(CA.read_bytes()).decode()
    if thing["kind"] == "Deployment":
        pod = thing["spec"]["template"]["spec"]
        pod["containers"] = [c for c in pod["containers"] if c["name"] == "manager"]
        for container in pod["containers"]:
            # a fast start: as shipped, it counts as ready after half a minute at the earliest
            container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}
    return thing
