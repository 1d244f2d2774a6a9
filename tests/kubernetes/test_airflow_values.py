"""Values for the Airflow chart: keys that it knows, options of Airflow, settings of ours."""

import base64
import copy
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubernetes.kustomization import ROOT, Object, documents, render
from tests.kubernetes.references import secrets_in_values
from tests.kubernetes.test_pods import restricted

FOLDER = ROOT / "airflow"
TYPES = {"str": str, "bool": bool, "int": int, "list": list, "map": dict}


def values(*names: str) -> dict[str, Any]:
    """Return files of values laid on top of each other as Helm does: maps merge, lists do not."""
    merged: dict[str, Any] = {}
    for name in names:
        (on_top,) = documents(FOLDER / name)
        merged = _merge(merged, on_top)
    return merged


def _merge(below: dict[str, Any], on_top: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(below)
    for key, value in on_top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


CLUSTERS = {
    "kind": ("values.yaml", "values-kind.yaml"),
    "eks": ("values.yaml", "values-eks.yaml"),
    "eks from git": ("values.yaml", "values-eks.yaml", "values-git-sync.yaml"),
}


@pytest.fixture(params=CLUSTERS)
def chart_values(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The values of an installation."""
    return values(*CLUSTERS[request.param])


def variables(chart_values: dict[str, Any]) -> dict[str, str]:
    """Return the variables of every container of Airflow."""
    listed = chart_values["env"] + yaml.safe_load(chart_values["extraEnv"])
    names = [entry["name"] for entry in listed]
    assert len(set(names)) == len(names), "a variable stands there twice"
    return {entry["name"]: entry["value"] for entry in listed}


def unknown(given: Any, shape: Any, path: str = "") -> list[str]:
    """Return what is not in the shape of the chart's values, as paths with a reason."""
    if isinstance(shape, str):
        fits = isinstance(given, TYPES[shape]) and not (shape == "int" and isinstance(given, bool))
        return [] if fits else [f"{path}: not of type {shape}"]
    found = []
    for key, value in given.items():
        where = f"{path}.{key}".lstrip(".")
        found += unknown(value, shape[key], where) if key in shape else [f"{where}: unknown"]
    return found


def shape() -> dict[str, Any]:
    """Return the shape of the chart's values."""
    (loaded,) = documents(Path(__file__).with_name("chart_values.yaml"))
    return dict(loaded)


def test_every_key_is_known_to_the_chart(chart_values: dict[str, Any]) -> None:
    assert unknown(chart_values, shape()) == []


def test_a_mistyped_key_would_be_seen() -> None:
    wrong = {"scheduler": {"replica": 2}, "executor": 1, "images": {"airflow": {"tag": "1"}}}
    assert unknown(wrong, shape()) == ["scheduler.replica: unknown", "executor: not of type str"]


def test_options_of_airflow_cfg_exist(chart_values: dict[str, Any]) -> None:
    from airflow.configuration import conf

    for section, options in chart_values["config"].items():
        for option, value in options.items():
            described = conf.configuration_description[section]["options"]
            assert option in described, f"[{section}] {option}"
            assert isinstance(value, str), f"[{section}] {option}: the chart wants a string"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_our_settings_are_read_from_the_variables(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trusted_retraining.settings import Settings

    given = variables(values(*CLUSTERS[cluster]))
    ours = {n: v for n, v in given.items() if n.startswith("AIRFLOW__TRUSTED_RETRAINING__")}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    settings = Settings.read()
    assert settings.runtime == "kubernetes"
    assert settings.cluster.in_cluster is True
    assert settings.cluster.deferrable is True
    assert settings.storage_root.startswith("s3://")
    assert settings.cluster.gpu_resource == ("" if cluster == "kind" else "nvidia.com/gpu")
    # a variable that no setting is read from would be a typing error
    known = set(vars(settings)) | set(vars(settings.cluster))
    known |= {f"serving_{name}" for name in vars(settings.serving)}
    prefix = "AIRFLOW__TRUSTED_RETRAINING__"
    assert {name.removeprefix(prefix).lower() for name in ours} <= known


@pytest.mark.parametrize("cluster", ["kind", "eks"])
def test_names_are_those_of_the_cluster_files(cluster: str) -> None:
    objects = render(ROOT / "overlays" / cluster)
    given = variables(values(*CLUSTERS[cluster]))

    def names(kind: str, namespace: str = "") -> set[str]:
        return {
            one["metadata"]["name"]
            for one in objects
            if one["kind"] == kind and one["metadata"].get("namespace", "") == namespace
        }

    def of(name: str) -> str:
        return given[f"AIRFLOW__TRUSTED_RETRAINING__{name}"]

    assert of("NAMESPACE") in names("Namespace")
    assert of("SERVICE_ACCOUNT") in names("ServiceAccount", of("NAMESPACE"))
    assert of("SERVING_NAMESPACE") in names("Namespace")
    assert of("SERVING_SERVICE_ACCOUNT") in names("ServiceAccount", of("SERVING_NAMESPACE"))
    assert of("PRIORITY_CLASS") in names("PriorityClass")
    host, _, port = of("MLFLOW_URI").removeprefix("http://").partition(":")
    assert host.split(".")[:2] == ["mlflow", "mlflow"]
    (service,) = [
        o for o in objects if o["kind"] == "Service" and o["metadata"]["name"] == "mlflow"
    ]
    assert service["spec"]["ports"][0]["port"] == int(port)
    (settings,) = [
        o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"] == "mlflow"
    ]
    # MLflow answers 403 to a Host header that it was not told of
    hosts = settings["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert {host, f"{host}:{port}", "localhost:5000"} <= set(hosts)
    # one bucket: runs, artifacts and logs
    bucket = of("STORAGE_ROOT").split("/")[2]
    logs = values(*CLUSTERS[cluster])["config"]["logging"]["remote_base_log_folder"]
    artifacts = settings["data"]["MLFLOW_ARTIFACTS_DESTINATION"]
    assert {logs.split("/")[2], artifacts.split("/")[2]} == {bucket}


def test_accounts_are_ours_and_roles_are_not_the_charts(
    kind: list[Object], chart_values: dict[str, Any]
) -> None:
    ours = {
        one["metadata"]["name"]: one["automountServiceAccountToken"]
        for one in kind
        if one["kind"] == "ServiceAccount" and one["metadata"]["namespace"] == "airflow"
    }
    assert chart_values["rbac"] == {"create": False}
    components = {name: chart_values[name] for name in (
        "scheduler", "dagProcessor", "triggerer", "apiServer", "migrateDatabaseJob"
    )} | {"worker": chart_values["workers"]["kubernetes"]}  # fmt: skip
    for component in components.values():
        account = component["serviceAccount"]
        assert account["create"] is False
        assert account.get("automountServiceAccountToken", True) is ours[account["name"]]
    assert set(ours) == {component["serviceAccount"]["name"] for component in components.values()}


def test_pods_of_the_chart_are_restricted(chart_values: dict[str, Any]) -> None:
    security = chart_values["securityContexts"]
    extra = chart_values["apiServer"]["extraInitContainers"]
    every = [{"securityContext": security["containers"]}, *extra]
    if "dags" in chart_values:
        git = chart_values["dags"]["gitSync"]
        every.append({"securityContext": git["securityContexts"]["container"]})
    assert restricted({"securityContext": security["pod"]}, every) == []
    mounted = {mount["name"] for container in extra for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in chart_values["apiServer"]["extraVolumes"]}


def test_the_host_keys_of_git_servers_are_checked() -> None:
    git = values("values-git-sync.yaml")["dags"]["gitSync"]
    # with an empty list the chart switches the check off
    prints = {}
    for line in git["knownHosts"].splitlines():
        host, kind, key = line.split()
        assert kind == "ssh-ed25519"
        digest = hashlib.sha256(base64.b64decode(key, validate=True)).digest()
        prints[host] = base64.b64encode(digest).decode().rstrip("=")
    # as the two print them on their pages
    assert prints == {
        "github.com": "+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",
        "gitlab.com": "eUXGGm1YGsMAS7vkcx6JOJdOGHPem5gQp4taiCfCLB8",
    }


def test_nothing_that_the_chart_would_make_up_is_left_to_it(chart_values: dict[str, Any]) -> None:
    named = {name for _, name, _ in secrets_in_values(chart_values)}
    assert named >= {
        "airflow-metadata", "airflow-fernet-key", "airflow-api-secret-key", "airflow-jwt-secret"
    }  # fmt: skip
    assert not any(chart_values[name]["enabled"] for name in ("postgresql", "redis", "flower"))


def test_the_pool_gpu_is_made_with_the_database(
    chart_values: dict[str, Any], tmp_path: Path
) -> None:
    job = chart_values["migrateDatabaseJob"]
    shell, flag, script = job["args"]
    (slots,) = job["env"]
    airflow = tmp_path / "airflow"
    airflow.write_text('#!/bin/sh\nprintf "%s|" "$@" >> "$0.calls"; echo >> "$0.calls"\n')
    airflow.chmod(0o755)
    done = subprocess.run(
        [shell, flag, script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", slots["name"]: slots["value"]},
        check=True,
    )
    assert done.returncode == 0
    calls = (tmp_path / "airflow.calls").read_text().splitlines()
    assert [call.split("|")[:4] for call in calls] == [
        ["db", "migrate", ""],
        ["pools", "set", "gpu", slots["value"]],
    ]
    # the arguments are those of the Airflow that is locked
    arguments = calls[1].split("|")[:-1]
    parsed = subprocess.run(
        [sys.executable, "-c", _PARSE, *arguments], capture_output=True, text=True, check=True
    )
    assert parsed.stdout.strip() == f"gpu {slots['value']} True"


_PARSE = """
import sys
from airflow.cli.cli_parser import get_parser
parsed = get_parser().parse_args(sys.argv[1:])
print(parsed.pool, parsed.slots, parsed.include_deferred)
"""
