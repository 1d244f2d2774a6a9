"""Tracking and registry over http, as in a cluster: a real MLflow server on loopback."""

import json
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tasks import registry, tracking
from tasks.contract import Manifest, RunDirectory, describe_outputs, now, tree_sha256
from tasks.environment import Environment
from tasks.spec import Pipeline
from tests.tasks.places import environment_at

PIPELINE = Pipeline.model_validate(
    {"name": "night", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    folder = tmp_path_factory.mktemp("mlflow-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
                *("--port", str(port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
                *("--artifacts-destination", str(folder / "artifacts")),
            ],
            cwd=folder,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process, folder / "server.log")
        yield environment_at(folder, mlflow_uri=url)
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert process.poll() is None, log.read_text()[-2000:]
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


def test_a_night_is_logged_registered_and_crowned_over_http(
    store: Environment, tmp_path: Path
) -> None:
    run = RunDirectory(str(tmp_path / "night" / "runs" / "one"))
    run.write_json("pipeline.json", json.loads(PIPELINE.to_json()))
    folder = Path(run.path) / "train"
    model = folder / "model"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"graph")
    (model / "variables" / "variables.index").write_bytes(bytes(range(256)) * 40)
    (model / "model.json").write_text(json.dumps({"classes": ["a", "b"]}))
    (folder / "history.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n")
    manifest = Manifest(
        stage="train",
        fingerprint="f",
        location=run.stage_uri("train"),
        outputs=describe_outputs(folder),
        metrics={"train.epochs": 2.0},
        started_at=now(),
    ).sealed()
    run.write_manifest(manifest)
    digest = tree_sha256(model)
    # MLflow silences what its own import warns of, in a way that the filter below would undo
    import mlflow.pyfunc  # noqa: F401

    with warnings.catch_warnings():
        # whatever is printed here would be printed into every night's log
        warnings.simplefilter("error", UserWarning)
        for _ in range(2):
            tracking.log_stage(manifest, pipeline=PIPELINE, run=run, environment=store)
        run_id = tracking.find_or_create_run(pipeline=PIPELINE, run=run, environment=store)
        versions = [
            registry.register(
                store,
                model_name="night",
                model_dir=model,
                digest=digest,
                run_id=run_id,
                example=lambda: b"\x89PNG\r\n\x1a\n\xff",
                tags={"verdict": "blessed"},
            )
            for _ in range(2)
        ]
        registry.set_alias(store, "night", registry.CHAMPION, versions[0])
        champion = registry.champion(store, "night")
    assert versions == ["1", "1"]
    assert champion is not None
    # its files came over the network and are the ones that were evaluated
    assert not champion.model_dir.is_relative_to(store.serving_root.parent)
    assert tree_sha256(champion.model_dir) == champion.digest == digest
    with tracking.mlflow_client(store) as client:
        found = client.search_runs([client.get_run(run_id).info.experiment_id])
        artifacts = {each.path for each in client.list_artifacts(run_id, "train")}
        losses = [each.value for each in client.get_metric_history(run_id, "train.epoch.loss")]
    assert [each.info.run_id for each in found] == [run_id]
    assert found[0].data.metrics["train.epochs"] == 2
    assert losses == [0.5, 0.25]
    assert "train/history.csv" in artifacts
    assert registry.champion(store, "unheard_of") is None
    assert registry.find_by_digest(store, "night", "0" * 64) is None
