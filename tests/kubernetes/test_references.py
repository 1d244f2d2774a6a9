"""Every secret, ConfigMap, account and class that a file names is there or is told how to make."""

import re
from pathlib import Path

import pytest

from tests.kubernetes.kustomization import ROOT, Object, documents, pod_spec
from tests.kubernetes.references import (
    GUIDES,
    config_maps_in,
    documented_secrets,
    secrets_in,
    secrets_in_values,
)

VALUES = sorted((ROOT / "airflow").glob("values*.yaml"))


def test_no_secret_is_in_the_repository(overlay: list[Object]) -> None:
    assert [one for one in overlay if one["kind"] == "Secret"] == []
    for path in ROOT.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not re.search(
                r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|://\w+:[^$@/\s]+@", text
            )


def test_the_guide_makes_every_secret_with_its_keys(overlay: list[Object]) -> None:
    documented = documented_secrets()
    for one in overlay:
        for namespace, name, key in secrets_in(one):
            assert (namespace, name) in documented, f"no guide makes {namespace}/{name}"
            assert key is None or key in documented[namespace, name], (namespace, name, key)


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.name)
def test_the_guide_makes_the_secrets_of_the_chart(path: Path) -> None:
    (values,) = documents(path)
    for namespace, name, key in secrets_in_values(values):
        assert key is None or key in documented_secrets()[namespace, name], (name, key)


def test_the_database_reads_the_passwords_that_the_guide_makes(kind: list[Object]) -> None:
    (init,) = [one for one in kind if one["metadata"]["name"] == "postgresql-init"]
    keys = documented_secrets()["trusted-retraining-data", "postgresql"]
    assert keys == {"postgres_password", "airflow_password", "mlflow_password"}
    assert "for name in airflow mlflow;" in init["data"]["databases.sh"]


def test_config_maps_accounts_and_classes_exist(overlay: list[Object]) -> None:
    def named(kind: str) -> set[tuple[str, str]]:
        return {
            (one["metadata"].get("namespace", ""), one["metadata"]["name"])
            for one in overlay
            if one["kind"] == kind
        }

    namespaces = {name for _, name in named("Namespace")}
    assert {one["metadata"]["namespace"] for one in overlay if "namespace" in one["metadata"]} == (
        namespaces
    )
    for one in overlay:
        assert config_maps_in(one) <= named("ConfigMap")
        spec = pod_spec(one)
        if spec is None:
            continue
        account = spec.get("serviceAccountName", "default")
        assert (one["metadata"]["namespace"], account) in named("ServiceAccount")
        if "priorityClassName" in spec:
            assert ("", spec["priorityClassName"]) in named("PriorityClass")


def test_every_command_of_the_guide_names_files_that_exist() -> None:
    text = "".join(path.read_text() for path in GUIDES)
    paths = set(re.findall(r"docker/kubernetes[\w./-]*", text))
    assert paths
    for path in paths:
        assert (ROOT.parents[1] / path.rstrip(".")).exists(), path
