"""What KServe and Kueue are asked for, which the schemas of Kubernetes do not know."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.kustomization import ROOT, Object, documents, render, with_component
from tests.kubernetes.test_pods import restricted
from trusted_retraining.local import home

PYTHON = home.ROOT / ".local/serving-venv/bin/python"

_READ = """
import json, sys
import kserve.models, kubernetes.client
from kserve import V1alpha1ServingRuntime

def check(value, kind, path):
    if kind.startswith("list["):
        for number, entry in enumerate(value):
            check(entry, kind[5:-1], f"{path}[{number}]")
    elif kind.startswith("dict("):
        assert isinstance(value, dict), path
    elif kind in ("str", "int", "bool"):
        assert type(value).__name__ == kind, f"{path}: {value!r} is no {kind}"
    elif hasattr(kserve.models, kind) or hasattr(kubernetes.client, kind):
        model = getattr(kserve.models, kind, None) or getattr(kubernetes.client, kind)
        fields = {there: here for here, there in model.attribute_map.items()}
        for key, entry in value.items():
            assert key in fields, f"{path}.{key}: unknown to {kind}"
            check(entry, model.openapi_types[fields[key]], f"{path}.{key}")

check(json.load(sys.stdin), "V1alpha1ServingRuntime", "")
"""


def read_by_kserve(one: Object) -> str:
    """Return what kserve's own models have against a ServingRuntime; empty for nothing."""
    if not PYTHON.exists():
        pytest.skip(f"the serving environment is absent: make setup builds {PYTHON}")
    # the volume claims and probes of Kubernetes are in its models; the metadata is not of interest
    told = {key: value for key, value in one.items() if key != "metadata"}
    done = subprocess.run(
        [PYTHON, "-c", _READ], input=json.dumps(told), capture_output=True, text=True
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


@pytest.fixture(scope="module")
def runtime() -> Object:
    (one,) = render(ROOT / "kserve")
    return one


def test_kserve_knows_every_field_of_the_runtime(runtime: Object) -> None:
    assert read_by_kserve(runtime) == ""
    wrong = runtime | {"spec": runtime["spec"] | {"suportedModelFormats": []}}
    assert "suportedModelFormats: unknown" in read_by_kserve(wrong)


def test_the_runtime_is_restricted_and_starts_our_server(runtime: Object) -> None:
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    own = container["securityContext"]
    # on the container, where Knative takes it; a pod takes it from there
    assert restricted({"securityContext": own, "volumes": runtime["spec"]["volumes"]},
                      [container]) == []  # fmt: skip
    server = (home.ROOT / "tasks/serving/server.py").read_text()
    assert container["command"] == ["python", "-m", "tasks.serving.server"]
    for argument in container["args"]:
        assert f'"{argument.partition("=")[0]}"' in server, argument
    assert runtime["spec"]["supportedModelFormats"][0]["autoSelect"] is False


def test_queues_belong_together_and_hold_what_stages_ask_for() -> None:
    from tasks.spec import Resources
    from trusted_retraining.cluster_settings import ClusterSettings
    from trusted_retraining.pods import container_resources

    objects = documents(ROOT / "kueue/queues.yaml")
    # v1beta1 is served with a warning
    assert {one["apiVersion"] for one in objects} == {"kueue.x-k8s.io/v1beta2"}
    by_kind: dict[str, Any] = {one["kind"]: one for one in objects}
    flavor, queue, local = (by_kind[k] for k in ("ResourceFlavor", "ClusterQueue", "LocalQueue"))
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"]
    chosen = queue["spec"]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    cluster = ClusterSettings.read(lambda name, default: default)
    assert chosen == local["metadata"]["namespace"] == cluster.namespace
    (group,) = queue["spec"]["resourceGroups"]
    (quota,) = group["flavors"]
    assert quota["name"] == flavor["metadata"]["name"]
    assert [each["name"] for each in quota["resources"]] == group["coveredResources"]
    # a pod that asks for something that no group covers would never be admitted
    asked = container_resources(Resources().model, gpu_resource=cluster.gpu_resource)["requests"]
    assert set(asked) <= set(group["coveredResources"])
    assert flavor["spec"]["nodeLabels"] == cluster.node_selector
    assert flavor["spec"]["tolerations"] == [
        toleration.model_dump(exclude_none=True) for toleration in cluster.tolerations
    ]


@pytest.mark.parametrize("overlay_name", ["overlays/eks", "overlays/kind"])
def test_the_quota_leaves_to_kueue_what_it_hands_out(overlay_name: str, tmp_path: Path) -> None:
    def bounds(objects: list[Object]) -> dict[str, str]:
        (quota,) = [
            one
            for one in objects
            if one["kind"] == "ResourceQuota" and one["metadata"]["name"] == "stages"
        ]
        hard: dict[str, str] = quota["spec"]["hard"]
        return hard

    alone = bounds(render(ROOT / overlay_name))
    queued = render(with_component(tmp_path, "kueue", overlay_name))
    (group,) = [one["spec"]["resourceGroups"][0] for one in queued if one["kind"] == "ClusterQueue"]
    left = bounds(queued)
    # a pod that waits counts against the quota, which refuses where the queue would let it wait
    handed_out = {f"requests.{name}" for name in group["coveredResources"]} | {"limits.memory"}
    assert set(left) == set(alone) - handed_out
    assert handed_out <= set(alone)
    assert int(left["pods"]) > int(alone["pods"])
    # the queue hands out as much as the quota allows without it
    assert {
        f"requests.{each['name']}": each["nominalQuota"]
        for each in group["flavors"][0]["resources"]
    } == {name: alone[name] for name in handed_out - {"limits.memory"}}


def test_files_are_small_enough_to_be_read() -> None:
    long = [p.name for p in Path(ROOT).rglob("*.yaml") if len(p.read_text().splitlines()) > 300]
    assert long == []
