"""The check of a cluster before the first deployment."""

import copy
import json
import os
from typing import Any

import pytest

from trusted_retraining.cluster_check import CONFIG, CONTAINERS, main

Object = dict[str, Any]
FORMATS = [{"prefix": "gs://"}, {"prefix": "s3://"}, {"regex": "https?://(.+)/(.+)"}]
AS_SHIPPED: Object = {
    "metadata": {"name": "default"},
    "spec": {
        "container": {"name": "storage-initializer", "image": "kserve/storage-initializer"},
        "supportedUriFormats": FORMATS,
        "workloadType": "initContainer",
    },
}
CONTEXT = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.fixture
def there(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the cluster has, by path, with KServe as it comes."""
    monkeypatch.setenv("KUBECONFIG", os.environ["AIRFLOW__TRUSTED_RETRAINING__CONFIG_FILE"])
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    found = {
        "/api/v1/namespaces/models": {"metadata": {"labels": level}},
        CONFIG.format("kserve"): {"data": {}},
        CONTAINERS: {"items": [copy.deepcopy(AS_SHIPPED)]},
    }

    def answer(_: int, method: str, path: str) -> Any:
        assert method == "GET"
        if path.startswith("/openapi"):
            return None
        return (200, found[path]) if path in found else (404, {"message": "not found"})

    cluster.before = answer
    return found


def test_kserve_as_it_comes_is_refused_with_the_command_that_mends_it(
    there: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert "ClusterStorageContainer default" in line and "capabilities" in line
    patch = json.loads(line.partition(" -p '")[2].rstrip("'"))
    there[CONTAINERS]["items"][0]["spec"] |= patch["spec"]
    assert main([]) == 0
    assert "KServe can serve in namespace models" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"supportedUriFormats": FORMATS[:1]}, "no ClusterStorageContainer takes s3://"),
        ({"workloadType": "localModelDownloadJob"}, "no ClusterStorageContainer takes s3://"),
    ],
)
def test_a_container_of_kserve_s_own_has_no_context(
    there: dict[str, Any], capsys: pytest.CaptureFixture[str], change: Object, said: str
) -> None:
    there[CONTAINERS]["items"][0]["spec"]["container"]["securityContext"] = CONTEXT
    assert main([]) == 0
    there[CONTAINERS]["items"][0]["spec"] |= change
    assert main([]) == 78
    assert said in capsys.readouterr().err


def test_a_namespace_without_a_standard_takes_it_as_it_is(there: dict[str, Any]) -> None:
    there["/api/v1/namespaces/models"] = {"metadata": {}}
    assert main([]) == 0


def test_what_is_not_there_is_named(
    cluster: Any, there: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    there.clear()
    cluster.kserve.unknown = ("canary",)
    assert main(["--mode", "standard"]) == 78
    said = capsys.readouterr().err
    for part in ("spec.canary", "inferenceservice-config", "no namespace models"):
        assert part in said
