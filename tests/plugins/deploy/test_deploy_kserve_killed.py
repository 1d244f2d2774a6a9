"""Deployments to KServe that are killed at any moment: a second attempt ends the same."""

import copy
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tasks.contract import RunDirectory
from tests.plugins.deploy.kserve_service import ISVC, MODES, Deploy, Night, Object, served, state


def _killed_at(cluster: Any, number: int, call: Callable[[], Any]) -> None:
    """Run a call in a process that is killed when its so-many-th request has been carried out."""
    first = len(cluster.requests)
    child = os.fork()
    if child == 0:
        try:
            call()
        finally:
            os._exit(0)

    def kill(count: int, method: str, path: str) -> None:
        if count - first == number:
            os.kill(child, signal.SIGKILL)

    cluster.after = kill
    _, status = os.waitpid(child, 0)
    cluster.after = None
    assert os.WIFSIGNALED(status), "it ended before it could be killed"


def _freeze(cluster: Any) -> Object:
    fields = ("objects", "applied", "aliases")
    frozen: Object = json.loads(
        json.dumps({each: [list(p) for p in getattr(cluster, each).items()] for each in fields})
    )
    frozen["kserve"] = copy.deepcopy(cluster.kserve.__dict__)
    return frozen


def _thaw(cluster: Any, frozen: Object) -> None:
    copied = json.loads(json.dumps({k: v for k, v in frozen.items() if k != "kserve"}))
    cluster.kserve.__dict__.update(copy.deepcopy(frozen["kserve"]))
    for each in ("objects", "applied"):
        setattr(cluster, each, {tuple(key): value for key, value in copied[each]})
    cluster.aliases = dict(copied["aliases"])


def _outcome(cluster: Any, run: RunDirectory) -> Object:
    document = run.read_json("deploy/deployment.json")
    told = state(cluster)
    return {
        "served": served(cluster),
        "aliases": dict(cluster.aliases),
        "spec": cluster.objects[ISVC]["spec"],
        "serving": told["serving"],
        "candidate": told["candidate"],
        "previous": told["previous"],
        "model": document["model"],
        "before": document["previous"],
    }


@pytest.mark.parametrize("mode", MODES)
def test_killed_after_any_change_a_second_attempt_ends_the_same(
    cluster: Any, night: Night, deploy: Deploy, mode: str
) -> None:
    cluster.kserve.lag = 1
    deploy(night("1"), mode=mode)
    run = night("2", champion="1")
    start, snapshot = len(cluster.requests), _freeze(cluster)
    deploy(run, mode=mode)
    wanted = _outcome(cluster, run)
    told = cluster.requests[start:]
    # what only reads is the same before and after; one question to the canary stands for them
    changing = [n for n, each in enumerate(told, 1) if each.startswith(("PATCH", "POST"))]
    assert len(changing) >= 6
    for number in changing:
        _thaw(cluster, snapshot)
        run.retract("deploy")
        _killed_at(cluster, number, lambda: deploy(run, mode=mode))
        deploy(run, mode=mode)
        assert _outcome(cluster, run) == wanted, f"killed at {told[number - 1]}"
