"""compose.yaml: valid by the schema of Compose files, and what it starts fits together."""

import ast
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.docker.dockerfile import ROOT

PATH = ROOT / "docker/compose.yaml"
TEXT = PATH.read_text()
OURS = ("airflow", "machine", "tasks", "serving")
ONCE = ("prepare", "migrate")

Service = dict[str, Any]

COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Service] = COMPOSE["services"]
services = pytest.mark.parametrize("name", SERVICES)


def test_it_is_valid_by_the_schema() -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    answer = subprocess.run([*words, str(PATH)], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_schema_would_have_told(tmp_path: Any) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(TEXT.replace("stop_grace_period:", "stop_grace:"))
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    answer = subprocess.run([*words, str(wrong)], capture_output=True, text=True)
    assert answer.returncode == 1 and "stop_grace" in answer.stdout


def test_every_variable_is_one_that_the_script_writes() -> None:
    script = (ROOT / "docker/env").read_text()
    # $$ is one dollar for the container's shell
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    assert {"POSTGRES_PASSWORD", "TAG", "FERNET_KEY"} <= used
    for name in used:
        assert re.search(rf"\b{name}\b", script), name
    # without a value Compose must refuse, rather than start with an empty password
    for name in used - {"PREFIX"}:
        assert f"${{{name}:?" in TEXT and f"${{{name}}}" not in TEXT, name


@services
def test_only_this_machine_reaches_it(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert str(port).startswith("127.0.0.1:"), port


@services
def test_no_container_can_do_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert "privileged" not in service and "docker.sock" not in str(service)
    assert "no-new-privileges:true" in service["security_opt"]
    if name != "postgres":  # whose image starts as root to own its folder
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert "/tmp" in service["tmpfs"]  # noqa: S108


@services
def test_images_are_ours_or_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    ours = re.fullmatch(r"\$\{PREFIX:-trusted-retraining\}/(\w+):\$\{TAG:\?[^}]+\}(-cpu)?", image)
    if ours:
        assert ours[1] in OURS and bool(ours[2]) == (ours[1] in ("tasks", "serving"))
    else:
        tag = image.rpartition(":")[2]
        assert tag != image and tag != "latest" and re.match(r"v?\d", tag)


@services
def test_each_says_whether_it_is_well_and_waits_for_what_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert ("healthcheck" in service) == (name not in ONCE)
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    for other, how in service.get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
        assert how["condition"] == wanted and other in SERVICES


@services
def test_volumes_are_declared(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        assert volume.split(":")[0] in COMPOSE["volumes"], volume


def test_our_settings_are_known_ones() -> None:
    template = (ROOT / "airflow.cfg.template").read_text()
    for name in re.findall(r"AIRFLOW__TRUSTED_RETRAINING__(\w+)", TEXT):
        assert re.search(rf"(?m)^#? ?{name.lower()} =", template), name


def test_addresses_are_those_of_the_services() -> None:
    for host, port in re.findall(r"(?:https?://|@)([a-z][\w-]+):(\d+)", TEXT):
        if host == "localhost":
            continue
        service = SERVICES[host]
        told = f"{service.get('command')} {service.get('environment')} {service.get('ports')} "
        told += f"{service['image']} {service.get('healthcheck')}"
        standard = {"postgres": "5432"}.get(host)
        assert port == standard or port in told, f"{host}:{port}"


def test_python_in_it_can_be_read() -> None:
    ast.parse(SERVICES["prepare"]["command"][0])
    for service in SERVICES.values():
        check = service.get("healthcheck", {}).get("test", [])
        if check[:3] == ["CMD", "python", "-c"]:
            ast.parse(check[3])


def test_no_service_but_the_api_server_has_the_admin_s_password() -> None:
    holders = [
        name for name, service in SERVICES.items()
        if "ADMIN_PASSWORD" in (service.get("environment") or {})
    ]  # fmt: skip
    assert holders == ["api-server"]
    # it writes it where only itself reads it, and takes it out of what its children inherit
    script = SERVICES["api-server"]["command"][2]
    assert script.index("umask 077") < script.index("printf") < script.index("unset")
