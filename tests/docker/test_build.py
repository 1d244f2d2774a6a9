"""``docker/build`` and ``docker/env``; the builder is a script that notes what it is asked."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.docker.dockerfile import ROOT, stages_of

BUILDER = """#!/bin/sh
printf '%s\\n' "$*" >>"$CALLS"
case "$*" in *push*--digestfile*) for a; do
  [ "$before" = --digestfile ] && printf sha256:abc >"$a"; before=$a
done ;; *inspect*) echo sha256:123 ;; images*) echo 2.5 GB ;; esac
"""


@pytest.fixture
def builder(tmp_path: Path) -> dict[str, str]:
    """Environment in which `buildah` is the script."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "buildah").write_text(BUILDER)
    (tools / "buildah").chmod(0o755)
    path = f"{tools}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "CALLS": str(tmp_path / "calls"), "BUILDER": "buildah", "TAG": "1"}


def build(environment: dict[str, str], *images: str) -> "subprocess.CompletedProcess[str]":
    words = [str(ROOT / "docker/build"), *images]
    return subprocess.run(words, env=environment, capture_output=True, text=True)


def calls(environment: dict[str, str], word: str) -> list[str]:
    lines = Path(environment["CALLS"]).read_text().splitlines()
    return [line for line in lines if line.split()[0] == word]


def test_all_images_are_built_those_before_that_others_are_made_of(builder: dict[str, str]) -> None:
    answer = build(builder)
    assert answer.returncode == 0, answer.stderr
    built = calls(builder, "bud")
    names = [line.split(" -t ")[1].split()[0] for line in built]
    assert names == [
        "trusted-retraining/airflow:1", "trusted-retraining/tasks:1",
        "trusted-retraining/tasks:1-cpu", "trusted-retraining/serving:1",
        "trusted-retraining/serving:1-cpu", "trusted-retraining/machine:1",
    ]  # fmt: skip
    for line in built:
        words = line.split()
        path = words[words.index("-f") + 1]
        assert words[words.index("--target") + 1] in stages_of(Path(path).parent.name)
        assert "BASE=python:3.11-slim-bookworm" in words
        # OCI's own format has no HEALTHCHECK
        assert "--format docker" in line
    assert "AIRFLOW=trusted-retraining/airflow:1" in built[-1]
    assert answer.stdout.count("sha256:123 2.5 GB\n") == 6


def test_base_names_and_network_are_the_caller_s(builder: dict[str, str]) -> None:
    own = {"BASE": "localhost/python:3", "PREFIX": "mine/ml", "NETWORK": "host",
           "CA_BUNDLE": "/etc/ca.pem", "NETRC": "/etc/netrc"}  # fmt: skip
    assert build(builder | own, "tasks-cpu").returncode == 0
    (line,) = calls(builder, "bud")
    assert "-t mine/ml/tasks:1-cpu" in line and "BASE=localhost/python:3" in line
    assert "--network host" in line
    # secrets, which leave no trace, rather than build arguments
    assert "--secret id=ca,src=/etc/ca.pem" in line
    assert "--secret id=netrc,src=/etc/netrc" in line


def test_what_is_pushed_is_told_by_the_digest_of_the_registry(builder: dict[str, str]) -> None:
    answer = build(builder | {"PUSH": "yes"}, "serving-cpu")
    assert "trusted-retraining/serving:1-cpu sha256:abc 2.5 GB" in answer.stdout


def test_an_unknown_image_is_named_with_those_that_there_are(builder: dict[str, str]) -> None:
    answer = build(builder, "tasks-tpu")
    assert answer.returncode == 64
    assert "no image tasks-tpu" in answer.stderr and "tasks-gpu" in answer.stderr
    assert not Path(builder["CALLS"]).exists()


def test_without_a_builder_it_says_what_to_install(tmp_path: Path) -> None:
    for tool in ("bash", "dirname", "env"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    answer = build({"PATH": str(tmp_path)}, "airflow")
    assert answer.returncode == 69 and "neither docker nor buildah" in answer.stderr


def test_passwords_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(ROOT / "docker/env", tmp_path / "docker/env")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    def made(tag: str) -> dict[str, str]:
        words = [str(tmp_path / "docker/env"), tag]
        subprocess.run(words, check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
        lines = (tmp_path / "docker/.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    first, second = made("1"), made("2")
    assert stat.S_IMODE((tmp_path / "docker/.env").stat().st_mode) == 0o600
    assert (first.pop("TAG"), second.pop("TAG")) == ("1", "2")
    assert first == second
    secrets = {name: value for name, value in first.items() if name != "PREFIX"}
    assert len(set(secrets.values())) == len(secrets)
    assert all(len(value) >= 16 for value in secrets.values())
