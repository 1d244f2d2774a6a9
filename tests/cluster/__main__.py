"""Says in one line why the tests on a cluster cannot run; exit code 0 when they can."""

import json
import os
import shutil
import subprocess
import sys
import time

from tests.cluster.images import BASE, SERVING, TASKS


def problem() -> str | None:
    """Return what is missing; None when nothing is."""
    config = os.environ.get("KUBECONFIG")
    if not config:
        return "KUBECONFIG is not set: name the file of a cluster that tests may write to"
    if shutil.which("kubectl") is None:
        return "kubectl is not on the PATH"
    answer = subprocess.run(
        ["kubectl", "get", "nodes", "-o", "json", "--request-timeout=20s"],
        capture_output=True,
        text=True,
    )
    if answer.returncode != 0:
        return f"the cluster of KUBECONFIG={config} does not answer: {answer.stderr.strip()}"
    there = {
        name
        for node in json.loads(answer.stdout)["items"]
        for image in node["status"].get("images", [])
        for name in image["names"]
    }
    missing = [image for image in (BASE, TASKS, SERVING) if image not in there]
    if missing:
        return (
            f"no node has {', '.join(missing)}: load what docker/build made, or name others in "
            "TEST_BASE_IMAGE, TEST_TASKS_IMAGE, TEST_SERVING_IMAGE"
        )
    return None


for _ in range(12):
    found = problem()
    if found is None or not found.startswith("no node has"):
        break
    # a node tells only now and then what it has
    time.sleep(5)
if found:
    sys.stderr.write(f"e2e: {found}\n")
sys.exit(69 if found else 0)
