"""The InferenceServices that are applied, against the models of KServe's own SDK."""

import copy
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tasks.contract import RunDirectory

Object = dict[str, Any]
REPOSITORY = Path(__file__).parents[3]
SHAPE = Path(__file__).with_name("kserve_shape.py")


@pytest.fixture(scope="session")
def serving_python() -> Path:
    """Interpreter of the environment that has KServe's SDK."""
    default = REPOSITORY / ".local/serving-venv/bin/python"
    python = Path(os.environ.get("TRUSTED_RETRAINING_SERVING_PYTHON", default))
    if not python.exists():
        pytest.skip(f"no serving environment at {python}: make test creates it")
    return python


def test_every_service_that_is_applied_fits_kserve_s_models(
    cluster: Any,
    night: Callable[..., RunDirectory],
    deploy: Callable[..., Object],
    serving_python: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "SERVING_SERVICE_ACCOUNT": "models",
        "IMAGE_PULL_SECRETS": "registry",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)
    applied: list[Object] = []
    apply = cluster._apply

    def note(key: tuple[str, str], body: Object, query: Object) -> tuple[int, Any]:
        if key[0] == "inferenceservices":
            applied.append(copy.deepcopy(body))
        return apply(key, body, query)  # type: ignore[no-any-return]

    monkeypatch.setattr(cluster, "_apply", note)
    for mode in ("knative", "standard"):
        cluster.objects.clear(), cluster.applied.clear(), cluster.aliases.clear()
        # the registry remembers who was champion, too
        cluster.model_tags.clear(), cluster.blessed.clear()
        cluster.kserve.workloads.clear()
        deploy(night("1"), mode=mode, gpu=1)
        deploy(night("2", champion="1"), mode=mode, gpu=1)
    assert sum("canary" in each["spec"] for each in applied) >= 1
    wrong = copy.deepcopy(applied[0])
    wrong["spec"]["predictor"]["containers"][0]["port"] = []
    wrong["spec"]["predictor"]["maxReplicas"] = "4"
    lines = _misfits(serving_python, [*applied, wrong])
    last = len(applied)
    assert sorted(lines) == [
        f"{last}.spec.predictor.containers[0].port: V1Container has no such field",
        f"{last}.spec.predictor.maxReplicas: '4' is no int",
    ]
    for each in applied:
        _check_as_pod(each["spec"]["predictor"])


def _misfits(python: Path, documents: list[Object]) -> list[str]:
    done = subprocess.run(
        [python, SHAPE], input=json.dumps(documents), capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def _check_as_pod(predictor: Object) -> None:
    """A predictor is a pod's specification and KServe's own fields beside it."""
    own = (
        *("minReplicas", "maxReplicas", "canaryTrafficPercent"),
        *("name", "labels", "deploymentStrategy"),
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {key: value for key, value in predictor.items() if key not in own},
    }
    kubernetes_validate.validate(pod, "1.31", strict=True)
    server = pod["spec"]["containers"][0]  # type: ignore[index]
    assert server["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "secret" not in json.dumps(server["env"]).lower()
