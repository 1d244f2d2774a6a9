"""Which secrets, ConfigMaps and accounts are referred to, and which the guides tell how to make."""

import re
import shlex
from pathlib import Path
from typing import Any

from tests.kubernetes.kustomization import Object, containers, pod_spec

_REPOSITORY = Path(__file__).parents[2]
GUIDES = tuple(_REPOSITORY / "docs" / name for name in ("kubernetes.md", "eks.md", "operations.md"))
"""The pages on clusters."""

COMMANDS = (*GUIDES, _REPOSITORY / "docker/kubernetes/overlays/kind/secrets")
"""Where the commands are that make every secret."""

Reference = tuple[str, str, str | None]
"""Namespace, name, and the key that is read, where one is named."""


def secrets_in(one: Object) -> set[Reference]:
    """Return the secrets that an object refers to."""
    namespace = one["metadata"].get("namespace", "")
    found: set[Reference] = set()
    if one["kind"] == "ServiceAccount":
        found |= {(namespace, entry["name"], None) for entry in one.get("secrets", [])}
    for container in containers(one):
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                found.add((namespace, reference["name"], reference["key"]))
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                found.add((namespace, source["secretRef"]["name"], None))
    for volume in (pod_spec(one) or {}).get("volumes", []):
        if "secret" in volume:
            found.add((namespace, volume["secret"]["secretName"], None))
    return found


def config_maps_in(one: Object) -> set[tuple[str, str]]:
    """Return the ConfigMaps that an object refers to, by namespace and name."""
    namespace = one["metadata"].get("namespace", "")
    found = {
        (namespace, source["configMapRef"]["name"])
        for container in containers(one)
        for source in container.get("envFrom", [])
        if "configMapRef" in source
    }
    return found | {
        (namespace, volume["configMap"]["name"])
        for volume in (pod_spec(one) or {}).get("volumes", [])
        if "configMap" in volume
    }


def secrets_in_values(values: dict[str, Any]) -> set[Reference]:
    """Return the secrets that values of the Airflow chart refer to, with the keys it reads."""
    found: set[Reference] = set()
    keys = {"fernetKeySecretName": "fernet-key", "apiSecretKeySecretName": "api-secret-key",
            "jwtSecretName": "jwt-secret"}  # fmt: skip
    found |= {("airflow", values[name], key) for name, key in keys.items() if name in values}
    if name := values.get("data", {}).get("metadataSecretName"):
        found.add(("airflow", name, "connection"))
    for entry in values.get("secret", []):
        found.add(("airflow", entry["secretName"], entry["secretKey"]))
    for component in values.values():
        if isinstance(component, dict):
            for volume in component.get("extraVolumes", []):
                if "secret" in volume:
                    found.add(("airflow", volume["secret"]["secretName"], None))
    if name := values.get("dags", {}).get("gitSync", {}).get("sshKeySecret"):
        found.add(("airflow", name, "gitSshKey"))
    return found


def documented_secrets() -> dict[tuple[str, str], set[str]]:
    """Return the keys of each secret that a command of the guide makes, by namespace and name."""
    text = "".join(path.read_text() for path in COMMANDS).replace("\\\n", " ")
    found: dict[tuple[str, str], set[str]] = {}
    for line in re.findall(r"kubectl -n .* create secret generic .*", text):
        words = shlex.split(line.split("#")[0])
        namespace, name = words[words.index("-n") + 1], words[words.index("generic") + 1]
        keys = re.findall(r"--from-(?:literal|file)=([\w.-]+)=", line)
        found.setdefault((namespace, name), set()).update(keys)
    return found
