"""Whether the cluster in KUBECONFIG has what the tests on it need."""

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence

from tests.cluster.images import BASE, SERVING, TASKS
from tests.cluster.kubectl import images_on_nodes
from tests.cluster.services import HOST
from tests.waiting import wait_for


def problem(images: Sequence[str] = (BASE, TASKS, SERVING)) -> str | None:
    """Return in one line what is missing, of these images too; None when nothing is."""
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
    missing = list(images)

    def all_there() -> bool:
        missing[:] = sorted(set(images) - images_on_nodes())
        return not missing

    try:
        if wait_for(all_there, 60, pause=5):
            return None
    except subprocess.CalledProcessError as error:
        return f"the cluster of KUBECONFIG={config} does not answer: {error.stderr.strip()}"
    return (
        f"no node has {', '.join(missing)}: load what docker/build made, or name others in "
        "TEST_BASE_IMAGE, TEST_TASKS_IMAGE, TEST_SERVING_IMAGE"
    )
