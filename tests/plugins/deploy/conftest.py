"""Nights that were blessed and published, and a cluster to deploy them to."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tasks.contract import (
    Manifest,
    ModelIdentity,
    Publication,
    PublishedAnswer,
    RuleResult,
    RunDirectory,
    Verdict,
    describe_outputs,
    outputs_digest,
    tree_sha256,
)
from tasks.spec import Pipeline
from trusted_retraining.operators.deploy import DeployOperator
from trusted_retraining.settings import Settings

Object = dict[str, Any]
PASSED = RuleResult(metric="evaluate.accuracy", value=0.9, bound=">= 0.8", passed=True, reason="")


def load(name: str) -> ModuleType:
    """Import a module beside this file."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"deploy_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster with KServe, at the address that the settings name."""
    controllers = load("controllers")
    found = load("cluster").Cluster(
        controllers.KServeController(), controllers.DeploymentController()
    )
    found.known = {
        "autoscaling/v2": ["horizontalpodautoscalers"],
        "policy/v1": ["poddisruptionbudgets"],
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": found.url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    for name, value in {
        "runtime": "kubernetes",
        "storage_root": f"file://{tmp_path}/runs",
        "config_file": str(tmp_path / "kubeconfig"),
        "mlflow_uri": found.url,
        "serving_address": found.url + "/{service}",
        "serving_namespace": "models",
        "serving_image": "example/serving:1",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name.upper()}", value)
    # a test waits no longer than it must
    for module in ("kserve", "mlflow"):
        monkeypatch.setattr(f"trusted_retraining.hooks.{module}.FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr("trusted_retraining.serving.probing.PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr("trusted_retraining.serving.probing.PAUSE_SECONDS", 0.02)
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def pipeline() -> Callable[..., Pipeline]:
    """Return a function that makes a pipeline with these fields of ``deploy``."""

    def make(**deploy: Any) -> Pipeline:
        return Pipeline.model_validate(
            {
                "name": "demo_night",
                "source": {"kind": "synthetic"},
                "label": {"column": "finding"},
                "deploy": {"observe_seconds": 0, "startup_seconds": 5, **deploy},
            }
        )

    return make


@pytest.fixture
def night(tmp_path: Path, cluster: Any) -> Callable[..., RunDirectory]:
    """Return a function that commits verdict and publication of a version."""

    def commit(version: str, *, champion: str | None = None, blessed: bool = True) -> RunDirectory:
        run = RunDirectory(f"{tmp_path}/runs/demo_night/runs/night-{version}")
        model = tmp_path / "runs/models/demo_night" / version
        (model / "variables").mkdir(parents=True, exist_ok=True)
        (model / "saved_model.pb").write_text(f"weights of {version}")
        (model / "variables/data").write_text("7")
        digest = tree_sha256(model)
        cluster.versions[version] = digest
        number = int(version)
        answers = [
            PublishedAnswer(
                image_id=f"{index}.png",
                image_b64=f"aW1hZ2U{index}",
                probabilities=[0.1 * index + 0.01 * number, 0.9 - 0.1 * index - 0.01 * number],
            )
            for index in range(3)
        ]
        cluster.answers[digest] = {a.image_b64: a.probabilities for a in answers}
        identity = ModelIdentity(name="demo_night", version=version, digest=digest)
        before = None
        if champion is not None:
            before = identity.model_copy(
                update={"version": champion, "digest": cluster.versions[champion]}
            )
        verdict = Verdict(
            blessed=blessed,
            model=identity,
            champion=before,
            rules=[PASSED.model_copy(update={"passed": blessed})],
            reasons=[] if blessed else ["too bad"],
        )
        publication = Publication(
            model=identity,
            model_uri=f"file://{model}",
            known_answers=answers,
            tolerance=0.001,
        )
        write(run, "bless", "verdict.json", verdict.model_dump_json())
        write(run, "publish", "publication.json", publication.model_dump_json())
        return run

    return commit


def write(run: RunDirectory, stage: str, name: str, text: str) -> None:
    """Commit a stage with one output."""
    folder = Path(run.path) / stage
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    outputs = describe_outputs(folder)
    run.write_manifest(
        Manifest(
            stage=stage,
            fingerprint="f",
            digest=outputs_digest(outputs),
            location=run.stage_uri(stage),
            outputs=outputs,
        )
    )


@pytest.fixture
def operator(cluster: Any, pipeline: Callable[..., Pipeline]) -> Callable[..., DeployOperator]:
    """Return a function that makes the operator, with these fields of ``deploy``."""

    def make(**fields: Any) -> DeployOperator:
        return DeployOperator(
            task_id="deploy",
            pipeline=pipeline(**fields),
            settings=Settings.read(),
            poll_seconds=0.02,
        )

    return make


@pytest.fixture
def deploy(operator: Callable[..., DeployOperator]) -> Callable[..., Object]:
    """Return a function that deploys a night, with these fields of ``deploy``."""

    def run_operator(run: RunDirectory, **fields: Any) -> Object:
        return operator(**fields).execute({"run_id": run.run_id, "params": {}})

    return run_operator
