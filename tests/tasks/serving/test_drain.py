"""A server that is told to end goes on answering, until whoever routes requests knows of it."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.serving.files import Pointer, tree_digest, write_pointer

DRAIN_SECONDS = 3.0


@pytest.fixture
def root(tmp_path: Path, saved_models: dict[str, Path]) -> Path:
    folder = tmp_path / "served"
    shutil.copytree(saved_models["1"], folder / "demo/1")
    digest = tree_digest(folder / "demo/1")
    write_pointer(folder / "demo", Pointer(version="1", digest=digest, path="1"))
    return folder


def test_it_answers_on_new_connections_and_closes_the_old_ones(
    start_server: Callable[..., Any], root: Path
) -> None:
    with start_server(root, "--drain-seconds", str(DRAIN_SECONDS)) as (process, url):
        path = f"{url}/v1/models/demo"
        with httpx.Client(trust_env=False) as kept:
            assert "connection" not in kept.get(path).headers
            os.kill(process.pid, signal.SIGTERM)
            ends, told = time.monotonic() + DRAIN_SECONDS, []
            while time.monotonic() < ends - 1:
                told.append(httpx.get(path, trust_env=False).status_code)
                time.sleep(0.05)
            assert set(told) == {200} and len(told) > 5
            assert kept.get(path).headers["connection"] == "close"
        process.wait(20)
        assert time.monotonic() > ends - 0.2


def test_a_second_signal_ends_it_at_once(start_server: Callable[..., Any], root: Path) -> None:
    with start_server(root, "--drain-seconds", "60") as (process, url):
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(1)
        assert process.poll() is None
        assert httpx.get(f"{url}/v1/models/demo", trust_env=False).status_code == 200
        os.kill(process.pid, signal.SIGTERM)
        process.wait(20)
