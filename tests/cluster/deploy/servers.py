"""Model servers in pods: their files in an S3 API, and a client that never stops asking."""

import base64
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from PIL import Image

from tasks.contract import PublishedAnswer
from tests.cluster.deploy.sites import Site
from tests.cluster.kubectl import images_on_nodes, kubectl
from tests.kubernetes.kustomization import Object
from tests.tasks.serving.conftest import MAKE_MODELS, offline

BIAS = {"1": 0.0, "2": 0.03}
"""What tells the two models apart."""
ROLLOUTS = int(os.environ.get("TEST_ROLLOUTS", "3"))
"""Versions that follow each other under a client that never stops."""
FIELDS: Object = {
    **{"cpu": "50m", "memory": "1200Mi", "min_replicas": 1, "max_replicas": 1},
    **{"startup_seconds": 240, "observe_seconds": 2, "max_latency_ms": 20000},
}


def use_image(monkeypatch: pytest.MonkeyPatch, *images: str) -> None:
    """Serve from the first of these images that a node has."""
    there = images_on_nodes()
    for each in images:
        if each in there:
            monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SERVING_IMAGE", each)
            return
    pytest.skip(f"no node has {' or '.join(images)}")


class Servers:
    """Two real models, deployed as one version after the other."""

    def __init__(self, site: Site, store: DirFileSystem, fields: Object) -> None:
        self.site, self.store, self.fields = site, store, fields
        self.made = site.folder / "made"
        subprocess.run([sys.executable, "-c", MAKE_MODELS, self.made], check=True)
        stream = io.BytesIO()
        Image.new("RGB", (20, 24), (250, 10, 30)).save(stream, "PNG")
        self.image = stream.getvalue()
        self.encoded = base64.b64encode(self.image).decode()

    def deploy(
        self,
        version: str,
        *,
        champion: str | None = None,
        model: str | None = None,
        bias: float | None = None,
        **fields: Any,
    ) -> Object:
        """Publish and deploy a version: of the first model if it is odd, of the second if even."""
        model = model or ("2" if int(version) % 2 == 0 else "1")
        known = PublishedAnswer(
            image_id="reddish",
            image_b64=self.encoded,
            probabilities=list(
                offline([self.image], bias=BIAS[model] if bias is None else bias)[0]
            ),
        )
        run = self.site.night(
            version,
            champion=champion,
            published=f"s3://{self.store.path}",
            saved_model=self.made / model / "model",
            answers=[known],
        )
        folder = f"{self.site.folder}/runs/models/demo_night/{version}/"
        self.store.put(folder, f"demo_night/{version}/", recursive=True)
        task = self.site.operator(**self.fields | fields)
        return dict(task.execute({"run_id": run.run_id, "params": {}}))

    @contextmanager
    def asked(self, service: str, *, each_seconds: float = 0.05) -> Iterator["Asked"]:
        """Ask a Service all the time, every other time on a connection of its own."""
        words = ("-n", self.site.namespace, "get", "service", service)
        address = kubectl(*words, "-o", "jsonpath={.spec.clusterIP}")
        url = f"http://{address}/v1/models/demo_night:predict"
        body = {"instances": [{"b64": self.encoded}]}
        asked, done = Asked(), threading.Event()
        kept = httpx.Client(trust_env=False, timeout=30)
        try:
            kept.post(url, json=body)
        except httpx.HTTPError as error:
            pytest.skip(f"Services of the cluster are not reached from here: {error}")

        def ask(number: int) -> None:
            try:
                if number % 2:
                    response = kept.post(url, json=body)
                else:
                    response = httpx.post(url, json=body, trust_env=False, timeout=30)
                found = response.json()["model_version"] if response.status_code == 200 else ""
                problem = "" if found else f"{response.status_code}: {response.text[:200]}"
            except httpx.HTTPError as error:
                found, problem = "", f"{type(error).__name__}: {error}"
            asked.note(found, problem)

        def ask_on() -> None:
            with ThreadPoolExecutor(16) as pool:
                started = time.monotonic()
                for number in range(10**6):
                    if done.wait(max(0.0, started + number * each_seconds - time.monotonic())):
                        return
                    pool.submit(ask, number)

        thread = threading.Thread(target=ask_on, daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            done.set()
            thread.join(60)
            kept.close()


class Asked:
    """What a client was answered.

    Attributes
    ----------
    versions : set of str
        That answered.
    problems : list of str
        What went wrong.
    """

    def __init__(self) -> None:
        self.versions: set[str] = set()
        self.problems: list[str] = []
        self.count = 0
        self._lock = threading.Lock()

    def note(self, version: str, problem: str) -> None:
        """Take down an answer."""
        with self._lock:
            self.count += 1
            if problem:
                self.problems.append(f"{time.strftime('%X')} {problem}")
            else:
                self.versions.add(version)


class PodWatch:
    """All pods of a namespace that there ever were, by UID.

    Attributes
    ----------
    seen : dict of str to str
        UID to the version that the pod serves.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace, self.seen = namespace, dict[str, str]()

    def look(self) -> list[str]:
        """Return the pods that are there and not about to end, and remember all."""
        found = json.loads(kubectl("-n", self.namespace, "get", "pods", "-o", "json"))["items"]
        for each in found:
            words = each["spec"]["containers"][0]["args"]
            version = words[words.index("--model-version") + 1]
            self.seen[each["metadata"]["uid"]] = version
        return [
            each["metadata"]["uid"] for each in found if "deletionTimestamp" not in each["metadata"]
        ]

    @contextmanager
    def watching(self) -> Iterator["PodWatch"]:
        """Look all the time."""
        done = threading.Event()

        def look_on() -> None:
            while not done.wait(0.5):
                self.look()

        thread = threading.Thread(target=look_on, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join(60)
