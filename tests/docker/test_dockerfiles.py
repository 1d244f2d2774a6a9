"""What the images promise, as far as it can be told without building them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.dockerfile import (
    IMAGES,
    ROOT,
    chain,
    command,
    last,
    pairs,
    sources,
    stages_of,
)

TARGETS = [
    ("airflow", "airflow"),
    ("tasks", "cpu"),
    ("tasks", "gpu"),
    ("serving", "cpu"),
    ("serving", "gpu"),
    ("machine", "machine"),
]
OWN = [target for target in TARGETS if target[0] != "machine"]


@pytest.mark.parametrize(("image", "target"), TARGETS)
def test_nobody_is_root_in_the_end(image: str, target: str) -> None:
    user, group = last(image, target, "USER").split(":")
    # a number: restricted Pod Security cannot tell who a name is
    assert int(user) > 0 and int(group) >= 0


@pytest.mark.parametrize(("image", "target"), TARGETS)
def test_a_build_takes_its_base_as_an_argument(image: str, target: str) -> None:
    text = (ROOT / "docker" / image / "Dockerfile").read_text()
    bases = {stage.base for stage in stages_of(image).values()} - set(stages_of(image))
    for base in bases:
        name = re.fullmatch(r"\$\{(\w+)\}", base)
        assert name and f"\nARG {name[1]}=" in text.partition("\nFROM")[0]
    assert chain(image, target)[0].base in bases


@pytest.mark.parametrize(("image", "target"), OWN)
def test_what_is_left_was_not_compiled_there(image: str, target: str) -> None:
    # libraries come from another stage; the last ones run nothing but what takes away
    runs = [run for stage in chain(image, target) for run in stage.all("RUN")]
    assert runs and all(run.startswith("/tmp/slim ") for run in runs)  # noqa: S108
    assert not re.search(r"apt-get|pip |curl|uv ", " ".join(runs))
    copied = [c for stage in chain(image, target) for c in stage.all("COPY") if "--from" in c]
    assert {c.split()[1] for c in copied} <= {
        "/opt/venv/airflow", "/opt/venv/tasks", "/opt/venv/serving", "/opt/cuda", "/opt/airflow",
        "/opt/trusted-retraining",
    }  # fmt: skip


def test_a_base_with_a_compiler_is_refused_before_anything_is_removed() -> None:
    script = (ROOT / "docker/slim").read_text()
    assert script.index("exit 1") < script.index("rm -rf")
    for tool in ("gcc", "g++", "cc", "clang", "make"):
        assert tool in script.partition("for tool in ")[2].partition(";")[0].split()


@pytest.mark.parametrize(("image", "target"), TARGETS)
def test_labels_tell_what_it_was_built_from(image: str, target: str) -> None:
    labels = pairs(image, target, "LABEL")
    wanted = ("title", "description", "version", "revision", "source", "licenses")
    assert {f"org.opencontainers.image.{name}" for name in wanted} == set(labels)
    assert labels["org.opencontainers.image.version"] == "${VERSION}"
    # late in the file: a new revision must not build the libraries anew
    steps = [name for name, _ in chain(image, target)[-1].steps]
    after = steps[steps.index("ARG") :]
    assert set(after) <= {"ARG", "ENV", "LABEL"}


@pytest.mark.parametrize(("image", "target"), TARGETS)
def test_health_is_asked_or_is_known_not_to_be(image: str, target: str) -> None:
    health = last(image, target, "HEALTHCHECK")
    assert health == "NONE" if image != "serving" else "/v2/health/live" in health


@pytest.mark.parametrize(("image", "target"), OWN)
def test_signals_reach_the_process(image: str, target: str) -> None:
    assert command(last(image, target, "ENTRYPOINT"))
    assert command(last(image, target, "CMD"))


@pytest.mark.parametrize("image", IMAGES)
def test_no_secret_is_an_argument_or_a_variable(image: str) -> None:
    for stage in stages_of(image).values():
        words = " ".join([*stage.all("ARG"), *stage.all("ENV")])
        assert not re.search(r"(?i)password|secret|token|_key\b", words)
        for run in stage.all("RUN"):
            if "/build/install" in run:
                assert "type=secret,id=ca" in run and "type=secret,id=netrc" in run


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_is_there_and_is_sent_to_the_builder(image: str) -> None:
    allowed = [line[1:] for line in ignored() if line.startswith("!")]
    for stage in stages_of(image).values():
        for paths, _ in sources(stage):
            for path in paths:
                assert (ROOT / path).exists(), path
                assert any(Path(path).match(a) or path.startswith(f"{a}/") for a in allowed), path


def ignored() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_nothing_else_is_sent_to_the_builder() -> None:
    lines = ignored()
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    used = {path for image in IMAGES for s in stages_of(image).values()
            for paths, _ in sources(s) for path in paths}  # fmt: skip
    for name in allowed:
        assert any(Path(path).match(name) or path.startswith(f"{name}/") for path in used), name
    # .env holds passwords; keys, data and history are nobody's business
    assert not [
        n for n in allowed if n.startswith(".") or n in ("docker", "docker/.env", "docker/*")
    ]


def test_the_image_of_airflow_holds_all_that_its_dags_need(tmp_path: Path) -> None:
    copy_code("airflow", tmp_path)
    assert not (tmp_path / "opt/trusted-retraining/tasks/stages").exists()
    script = """
import runpy
made = runpy.run_path("opt/airflow/dags/retraining.py")
from airflow.sdk import DAG
print(sorted(name for name, thing in made.items() if isinstance(thing, DAG)))
"""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": f"{tmp_path}/opt/trusted-retraining:{tmp_path}/opt/airflow/plugins",
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "opt/airflow/dags"),
        "AIRFLOW__TRUSTED_RETRAINING__RUNTIME": "kubernetes",
        "AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT": "s3://bucket/runs",
        "AIRFLOW__TRUSTED_RETRAINING__MLFLOW_URI": "http://mlflow:5000",
    }
    answer = run([sys.executable, "-P", "-c", script], tmp_path, environment)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert "'demo'" in answer.stdout.splitlines()[-1]


def test_the_image_of_the_server_holds_all_that_it_needs(tmp_path: Path) -> None:
    python = ROOT / ".local/serving-venv/bin/python"
    if not python.exists():
        pytest.skip("the model server's environment is absent: make setup")
    copy_code("serving", tmp_path)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": f"{tmp_path}/opt/trusted-retraining",
    }
    words = [str(python), *command(last("serving", "cpu", "ENTRYPOINT"))[1:], "--help"]
    answer = run(words, tmp_path, environment)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert "--model-uri" in answer.stdout


def run(
    words: list[str], folder: Path, environment: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def copy_code(image: str, root: Path) -> None:
    """Put the code where the image has it."""
    for paths, place in sources(stages_of(image)["code"]):
        for path in paths:
            source, target = ROOT / path, root / place.lstrip("/")
            if source.is_dir():
                skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(source, target, ignore=skip)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
