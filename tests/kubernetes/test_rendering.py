"""The files are what kustomize makes of them, and are valid for today's Kubernetes."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.kubernetes.kustomization import (
    ROOT,
    Object,
    containers,
    documents,
    identity,
    is_component,
    render,
    with_component,
)

EVERY_FOLDER = sorted(path.parent for path in ROOT.rglob("kustomization.yaml"))
FOLDERS = [folder for folder in EVERY_FOLDER if not is_component(folder)]
COMPONENTS = [folder.name for folder in EVERY_FOLDER if is_component(folder)]
CUSTOM = ("serving.kserve.io", "kueue.x-k8s.io", "karpenter.")

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# RBAC takes any path segment, everything else is more strict
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|[KMGTP]i?)?")
LABEL = re.compile(
    r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)


def test_every_file_belongs_to_a_kustomization() -> None:
    named = {ROOT / "airflow"}
    for folder in EVERY_FOLDER:
        (settings,) = documents(folder / "kustomization.yaml")
        named |= {(folder / entry).resolve() for entry in settings["resources"]}
    orphans = [
        path
        for path in ROOT.rglob("*.yaml")
        if path.name != "kustomization.yaml" and not named & {path, path.parent}
    ]
    assert orphans == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_kubectl_adds_a_component_in_the_same_way(component: str, tmp_path: Path) -> None:
    test_kubectl_renders_the_same(with_component(tmp_path, component, "overlays/eks"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_kubectl_renders_the_same(folder: Path) -> None:
    kubectl = shutil.which("kubectl")
    version = kubectl and subprocess.run(
        [kubectl, "version", "--client", "-o", "json"], capture_output=True, text=True
    )
    # kubectl before 1.21 holds a kustomize of 2019 that knows no `patches`
    if not version or "kustomizeVersion" not in json.loads(version.stdout or "{}"):
        pytest.skip("no kubectl with a kustomize of today; our own reader checks the files")
    shown = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=True
    )
    theirs = {identity(one): one for one in yaml.safe_load_all(shown.stdout)}
    assert theirs == {identity(one): one for one in render(folder)}


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
def test_objects_are_valid_without_unknown_fields(overlay: list[Object], version: str) -> None:
    for one in overlay:
        kubernetes_validate.validate(one, version, strict=True)


def test_an_unknown_field_would_be_seen(kind: list[Object]) -> None:
    (mlflow,) = [one for one in kind if one["kind"] == "Deployment"]
    wrong = mlflow | {"spec": mlflow["spec"] | {"replicsa": 2}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replicsa"):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


def test_names_labels_and_quantities(overlay: list[Object]) -> None:
    # what the schemas let pass and the API server does not
    for one in overlay:
        assert NAME.fullmatch(one["metadata"]["name"]), identity(one)
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "trusted-retraining"
        for key, value in one["metadata"]["labels"].items():
            assert LABEL.fullmatch(key) and isinstance(value, str), identity(one)
            assert LABEL.fullmatch(value) and "/" not in value, identity(one)
        for quantity in _quantities(one):
            assert QUANTITY.fullmatch(quantity), (identity(one), quantity)
        names = [container["name"] for container in containers(one)]
        assert len(set(names)) == len(names)


def test_requests_are_within_limits_and_quotas(overlay: list[Object]) -> None:
    quotas = {
        one["metadata"]["namespace"]: one for one in overlay if one["kind"] == "ResourceQuota"
    }
    ranges = {one["metadata"]["namespace"]: one for one in overlay if one["kind"] == "LimitRange"}
    # a quota on memory without defaults would refuse every pod that says nothing
    assert set(quotas) == set(ranges) and "trusted-retraining" in quotas
    for limits in ranges.values():
        (of_container,) = limits["spec"]["limits"]
        assert {"cpu", "memory"} <= set(of_container["defaultRequest"])
        assert "memory" in of_container["default"]
        # the maximum is the default limit where there is none: CPUs would be throttled
        assert "cpu" not in of_container["default"] | of_container.get("max", {})
        for resource, requested in of_container["defaultRequest"].items():
            for bound in ("default", "max"):
                limit = of_container.get(bound, {}).get(resource)
                assert limit is None or _bytes(requested) <= _bytes(limit)
    for one in overlay:
        for container in containers(one):
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert _bytes(requests["memory"]) <= _bytes(limits["memory"])
            assert "cpu" in requests and "cpu" not in limits
    for quota in quotas.values():
        hard = quota["spec"]["hard"]
        assert _bytes(hard["requests.memory"]) <= _bytes(hard["limits.memory"])


def test_the_quota_of_stages_holds_a_whole_night(overlay: list[Object]) -> None:
    from tasks.spec import Resources

    (quota,) = [one for one in overlay if one["metadata"]["name"] == "stages"
                and one["kind"] == "ResourceQuota"]  # fmt: skip
    hard = quota["spec"]["hard"]
    model = Resources().model
    gpus = int(hard["requests.nvidia.com/gpu"])
    assert gpus * _bytes(model.memory) <= _bytes(hard["requests.memory"])
    assert gpus * _bytes(model.cpu) <= _bytes(hard["requests.cpu"])
    # scratch, /tmp and home are bounded by the request each, the pod by it as a whole
    assert gpus * _bytes(model.ephemeral_storage) <= _bytes(hard["requests.ephemeral-storage"])


def test_selectors_meet_their_pods(overlay: list[Object]) -> None:
    workloads = [one for one in overlay if one["kind"] in ("Deployment", "StatefulSet")]
    for one in workloads:
        chosen = one["spec"]["selector"]["matchLabels"]
        assert chosen.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    for service in (one for one in overlay if one["kind"] == "Service"):
        ports = [
            port["name"]
            for one in workloads
            if one["metadata"]["namespace"] == service["metadata"]["namespace"]
            and service["spec"]["selector"].items()
            <= one["spec"]["template"]["metadata"]["labels"].items()
            for container in containers(one)
            for port in container.get("ports", [])
        ]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports), service
    for one in workloads:
        if one["kind"] == "StatefulSet":
            services = [s["metadata"]["name"] for s in overlay if s["kind"] == "Service"]
            assert one["spec"]["serviceName"] in services


def test_every_port_names_its_protocol(overlay: list[Object]) -> None:
    # the key of a list's entry: older servers refuse to apply one without it
    ports = [port for one in overlay for c in containers(one) for port in c.get("ports", [])]
    ports += [port for one in overlay if one["kind"] == "Service" for port in one["spec"]["ports"]]
    assert ports and all(port["protocol"] == "TCP" for port in ports)


def test_custom_objects_are_only_where_their_definitions_are() -> None:
    for folder in FOLDERS:
        custom = [one for one in render(folder) if one["apiVersion"].startswith(CUSTOM)]
        # an overlay that needed KServe, Kueue or Karpenter could not be applied without them
        assert bool(custom) == (folder.name in ("kserve", "karpenter")), folder


def _quantities(one: Object) -> list[str]:
    found = []
    for container in containers(one):
        for kind in container["resources"].values():
            found += kind.values()
    if one["kind"] == "ResourceQuota":
        found += one["spec"]["hard"].values()
    if one["kind"] == "LimitRange":
        for limits in one["spec"]["limits"]:
            found += [q for key, bound in limits.items() if key != "type" for q in bound.values()]
    for claim in one.get("spec", {}).get("volumeClaimTemplates", []):
        found += claim["spec"]["resources"]["requests"].values()
    return found


def _bytes(quantity: str) -> float:
    from tasks.spec.resources import quantity as value

    return float(value(quantity))
