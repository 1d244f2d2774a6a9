"""Of KServe as much as a cluster without it needs: the kind, and a stand-in of its controller."""

import threading
from pathlib import Path

from tests.cluster.deploy.sites import NAME, PATH
from tests.plugins.deploy.cluster import Cluster
from trusted_retraining.hooks.kserve import KServeHook
from trusted_retraining.hooks.resources import INFERENCE_SERVICE

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "inferenceservices.serving.kserve.io"},
    "spec": {
        "group": "serving.kserve.io",
        "scope": "Namespaced",
        "names": {
            "kind": "InferenceService",
            "plural": "inferenceservices",
            "singular": "inferenceservice",
        },
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


class Controller(threading.Thread):
    """Sets the status of the InferenceService, as the person who runs the tests."""

    def __init__(self, stand_in: Cluster, namespace: str, config: Path | None) -> None:
        super().__init__(daemon=True)
        self.stand_in, self.namespace = stand_in, namespace
        self.hook = KServeHook(conn_id=None, in_cluster=False, config_file=config)
        self.done = threading.Event()
        self.trouble: list[BaseException] = []

    def run(self) -> None:
        while not self.done.wait(0.1):
            try:
                self.look_once()
            except BaseException as error:
                self.trouble.append(error)
                return

    def look_once(self) -> None:
        found = self.hook.get(INFERENCE_SERVICE, self.namespace, NAME)
        if found is None:
            return
        status = self.stand_in.kserve.reconcile(found)
        self.stand_in.objects["inferenceservices", NAME] = found | {"status": status}
        if status != found.get("status"):
            self.hook.api_client.call_api(
                PATH.format(self.namespace) + "/status",
                "PATCH",
                header_params={"Content-Type": "application/merge-patch+json"},
                body={"status": status},
                auth_settings=["BearerToken"],
                _preload_content=False,
            )
