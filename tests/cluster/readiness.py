"""Whether the cluster in KUBECONFIG has what the tests on it need."""

import os
import shutil
import socket
import subprocess

from tests.cluster.images import BASE, SERVING, TASKS
from tests.cluster.kubectl import kubectl
from tests.cluster.services import HOST
from tests.waiting import wait_for


def problem() -> str | None:
    """Return what is missing; None when nothing is."""
    config = os.environ.get("KUBECONFIG")
    if not config:
        return "KUBECONFIG is not set: name the file of a cluster that tests may write to"
    if shutil.which("kubectl") is None:
        return "kubectl is not on the PATH"
    answer = subprocess.run(
        ["kubectl", "get", "nodes", "--request-timeout=20s"],
        capture_output=True,
        text=True,
    )
    if answer.returncode != 0:
        return f"the cluster of KUBECONFIG={config} does not answer: {answer.stderr.strip()}"
    try:
        socket.create_server((HOST, 0)).close()
    except OSError as error:
        return (
            f"pods cannot reach this machine at {HOST}: {error}; name its address in "
            "TEST_CLUSTER_HOST (that of a bridge of pods is there once a first pod has run)"
        )
    # a node tells only now and then what it has
    if not wait_for(lambda: not missing_images(), 60, pause=5):
        return (
            f"no node has {', '.join(missing_images())}: load what docker/build made, or name "
            "others in TEST_BASE_IMAGE, TEST_TASKS_IMAGE, TEST_SERVING_IMAGE"
        )
    return None


def missing_images() -> list[str]:
    """Return the images that no node has."""
    path = "jsonpath={.items[*].status.images[*].names[*]}"
    there = kubectl("get", "nodes", "-o", path).split()
    return [image for image in (BASE, TASKS, SERVING) if image not in there]
