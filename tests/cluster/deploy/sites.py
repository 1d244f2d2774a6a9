"""Namespaces that models are deployed to, and with whose rights."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kubectl import kubectl
from tests.kubernetes.kustomization import Object
from tests.plugins.deploy.cluster import Cluster
from tests.plugins.deploy.nights import commit_night, pipeline_of
from trusted_retraining.operators.deploy import DeployOperator
from trusted_retraining.settings import Settings

ON_CLUSTER = [
    pytest.mark.cluster,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.timeout(300),
]
"""Marks of every test in this folder."""
NAME = "demo-night"
PATH = "/apis/serving.kserve.io/v1beta1/namespaces/{}/inferenceservices/demo-night"


def login_as(account: str, namespace: str, folder: Path) -> Path:
    """Return a kubeconfig with an account's own token."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600},
    }
    token = json.loads(kubectl("create", "--raw", path, "-f", "-", given=request))
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    config["users"] = [
        {"name": each["name"], "user": {"token": token["status"]["token"]}}
        for each in config["users"]
    ]
    target = folder / f"{account}.json"
    target.write_text(json.dumps(config))
    target.chmod(0o600)
    return target


class Site:
    """A namespace, the models in it, and how they are deployed."""

    def __init__(self, namespace: str, folder: Path, stand_in: Cluster) -> None:
        self.namespace, self.folder, self.stand_in = namespace, folder, stand_in

    def night(self, version: str, **facts: Any) -> Any:
        return commit_night(self.folder / "runs", self.stand_in, version, **facts)

    def operator(self, **fields: Any) -> DeployOperator:
        return DeployOperator(
            task_id="deploy",
            pipeline=pipeline_of(**{"startup_seconds": 30, **fields}),
            settings=Settings.read(),
            poll_seconds=0.1,
        )

    def deploy(
        self, version: str, *, champion: str | None = None, published: str = "", **fields: Any
    ) -> Object:
        run = self.night(version, champion=champion, published=published)
        manifest = self.operator(**fields).execute({"run_id": run.run_id, "params": {}})
        return dict(manifest)

    def get(self) -> Object:
        return dict(json.loads(kubectl("get", "--raw", PATH.format(self.namespace))))

    def state(self) -> Object:
        words = ("-n", self.namespace, "get", "configmap", f"{NAME}-rollout")
        return dict(json.loads(kubectl(*words, "-o", "jsonpath={.data.state}")))
