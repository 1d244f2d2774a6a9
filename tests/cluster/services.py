"""What a night on a cluster finds outside of it: an S3 API, MLflow, and a way to its Services."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests import s3_server
from tests.cluster.host import host
from tests.cluster.kubectl import kubectl
from tests.kubernetes.iam import POLICIES, policy_for

HOST = host()
"""Address of this machine that pods reach."""
CREDENTIALS = s3_server.credentials()
BUCKET = "nights"


@dataclass(frozen=True)
class Services:
    """Addresses.

    Attributes
    ----------
    s3 : str
        S3 API, which knows the roles.
    mlflow : str
        MLflow server, whose artifacts are in the bucket.
    kubernetes : str
        API server without a login, on loopback.
    """

    s3: str
    mlflow: str
    kubernetes: str

    def connections(self) -> dict[str, str]:
        """Return the variables of Airflow's connections to the S3 API and to the cluster."""
        keys = s3_server.credentials("trusted-retraining-airflow")
        account = {
            "conn_type": "aws",
            "login": keys["AWS_ACCESS_KEY_ID"],
            "password": keys["AWS_SECRET_ACCESS_KEY"],
            "extra": {"endpoint_url": self.s3, "region_name": keys["AWS_DEFAULT_REGION"]},
        }
        return {
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(account),
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": '{"conn_type": "kubernetes"}',
        }

    def make_secret(self, namespace: str, name: str, who: str = s3_server.MASTER) -> None:
        """Make the secret from which pods have their way to the S3 API, as one of its identities.

        All stages have one secret, so theirs is of who may do everything.
        """
        values = s3_server.credentials(who) | {"AWS_ENDPOINT_URL_S3": self.s3}
        literals = [f"--from-literal={key}={value}" for key, value in values.items()]
        kubectl("-n", namespace, "create", "secret", "generic", name, *literals)


@contextmanager
def serve(folder: Path) -> Iterator[Services]:
    """Start them, and end them in the end."""
    policies = {role: policy_for(role, BUCKET) for role in POLICIES}
    with ExitStack() as stack:
        s3 = stack.enter_context(s3_server.serve(HOST, policies))
        s3_server.client(s3).create_bucket(Bucket=BUCKET)
        mlflow_port, proxy_port = _free_port(HOST), _free_port("127.0.0.1")
        mlflow = f"http://{HOST}:{mlflow_port}"
        _start(
            stack,
            *(sys.executable, "-m", "mlflow", "server", "--host", HOST),
            *("--port", str(mlflow_port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", f"s3://{BUCKET}/mlflow"),
            *("--allowed-hosts", f"{HOST},{HOST}:{mlflow_port}"),
            log=folder / "mlflow.log",
            environment=s3_server.credentials("trusted-retraining-mlflow")
            | {"MLFLOW_S3_ENDPOINT_URL": s3, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
        _start(stack, "kubectl", "proxy", f"--port={proxy_port}", log=folder / "proxy.log")
        kubernetes = f"http://127.0.0.1:{proxy_port}"
        _wait_for(f"{mlflow}/health", folder / "mlflow.log")
        _wait_for(f"{kubernetes}/version", folder / "proxy.log")
        yield Services(s3=s3, mlflow=mlflow, kubernetes=kubernetes)


def objects(s3: str, prefix: str) -> list[str]:
    """Return the keys of the bucket below a prefix."""
    listed = s3_server.client(s3).get_paginator("list_objects_v2")
    pages = listed.paginate(Bucket=BUCKET, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def _start(
    stack: ExitStack, *command: str, log: Path, environment: dict[str, str] | None = None
) -> None:
    stream = stack.enter_context(log.open("w"))
    process = subprocess.Popen(
        command, env=os.environ | (environment or {}), stdout=stream, stderr=subprocess.STDOUT
    )

    def stop() -> None:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def _wait_for(address: str, log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            httpx.get(address, timeout=5, trust_env=False).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise TimeoutError(f"{address} does not answer: {log.read_text()[-2000:]}")
