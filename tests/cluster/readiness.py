"""Whether the cluster in KUBECONFIG has what the tests on it need."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence

from tests.cluster.images import BASE, SERVING, TASKS
from tests.cluster.kubectl import images_on_nodes
from tests.cluster.services import HOST


def problem(images: Sequence[str] = (BASE, TASKS, SERVING)) -> str | None:
    """Return in one line what is missing, of these images too; None when nothing is."""
    config = os.environ.get("KUBECONFIG")
    if not config:
        return "KUBECONFIG is not set: name the file of a cluster that tests may write to"
    if shutil.which("kubectl") is None:
        return "kubectl is not on the PATH"
    for _ in range(12):
        try:
            missing = sorted(set(images) - images_on_nodes())
        except subprocess.CalledProcessError as error:
            why = error.stderr.strip().rpartition("\n")[2]
            return f"the cluster of KUBECONFIG={config} does not answer: {why}"
        if not missing:
            break
        # a node tells only now and then what it has
        time.sleep(5)
    else:
        return (
            f"no node has {', '.join(missing)}: load what docker/build made, or name others in "
            "TEST_BASE_IMAGE, TEST_TASKS_IMAGE, TEST_SERVING_IMAGE"
        )
    try:
        socket.create_server((HOST, 0)).close()
    except OSError as error:
        return (
            f"pods cannot reach this machine at {HOST}: {error}; name its address in "
            "TEST_CLUSTER_HOST (that of a bridge of pods is there once a first pod has run)"
        )
    return None
