"""Kueue, from the chart of its Go module; it makes its webhooks' certificates itself."""

import json

import yaml

from tests.ground.addons import apply, render, rolled_out
from tests.ground.components import Component, module
from tests.ground.processes import kubectl, need

NAMESPACE = "kueue-system"


def start(component: Component) -> None:
    """Install it, and wait until its webhooks answer."""
    apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    rendered = render("kueue", module(component) / "charts", NAMESPACE, "kueue-values.yaml")
    things = [thing for thing in yaml.safe_load_all(rendered) if thing]
    # while an aggregated API does not answer, no namespace of the cluster can be deleted
    apply([thing for thing in things if thing["kind"] != "APIService"])
    # until the kubelet shows it the certificate that it has made, a minute may pass
    rolled_out(NAMESPACE, "kueue-controller-manager", seconds=300)
    need("Kueue's webhook answers", _webhook_answers, 60)


def _webhook_answers() -> bool:
    flavor = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ResourceFlavor",
        "metadata": {"name": "probe"},
    }
    kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(flavor))
    return True
