"""A night of the command line that is interrupted while it deploys to a cluster."""

import os
import signal
import threading
from typing import Any

import pytest

from tests.plugins.deploy.kserve_service import Deploy, Night, served, state
from trusted_retraining.local import night as command_line


@pytest.mark.parametrize("mode", ["knative", "standard"])
def test_it_takes_its_canary_back_and_ends(
    cluster: Any, night: Night, deploy: Deploy, mode: str
) -> None:
    deploy(night("1"), mode=mode)
    run = night("2", champion="1")
    lifeline, held = os.pipe()
    asked = threading.Event()

    def notice(_: int, method: str, path: str) -> None:
        if path.endswith(":predict"):
            asked.set()

    cluster.before = notice
    child = os.fork()
    if child == 0:
        try:
            os.close(held)
            os.dup2(lifeline, 0)
            command_line._hold_on_to_life()
            deploy(run, mode=mode, observe_seconds=60)
        finally:
            os._exit(1)
    os.close(lifeline)
    assert asked.wait(30)
    os.close(held)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "long before it had watched long enough"
    found = state(cluster)
    assert (found["serving"]["version"], found["candidate"]) == ("1", None)
    assert served(cluster) == {"1"} and cluster.aliases == {"champion": "1"}
