"""Putting a version into service: asked first, switched last, undone on any failure."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.contract import Altered, StageError, is_bad_input, tree_sha256
from tasks.serving.client import KnownAnswer
from tasks.serving.deployment import Deployment, deploy
from tasks.serving.files import pointed_models, read_pointer, write_pointer
from tests.tasks.serving.models_in_service import install

REPOSITORY = Path(__file__).parents[3]
Make = Callable[..., Deployment]


def no_server_runs(root: Path) -> bool:
    """Tell whether no process serves from a folder, waiting a moment for one that is ending."""
    for _ in range(100):
        commands = [
            " ".join(each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])
        ]
        if not any("tasks.serving.server" in each and str(root) in each for each in commands):
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def aliases() -> list[str]:
    """Versions that the alias was moved to, in order."""
    return []


@pytest.fixture
def make(
    tmp_path: Path,
    serving_python: Path,
    saved_models: dict[str, Path],
    images: list[bytes],
    expected: dict[str, Any],
    aliases: list[str],
) -> Make:
    def made(version: str, **changes: Any) -> Deployment:
        answers = [
            KnownAnswer(image_id=f"image {index}", image=image, probabilities=row)
            for index, (image, row) in enumerate(zip(images, expected[version], strict=True))
        ]
        deployment = Deployment(
            model="demo",
            version=version,
            digest=tree_sha256(saved_models[version]),
            source=saved_models[version],
            root=tmp_path / "served",
            python=serving_python,
            server_url="",
            # JPEG decoders differ by a grey level
            tolerance=0.02,
            startup_seconds=120,
            known_answers=lambda: answers,
            champion_digest=lambda: "",
            set_champion=lambda: aliases.append(version),
        )
        return dataclasses.replace(deployment, **changes)

    return made


def test_a_version_is_asked_then_switched_to_then_the_alias_moves(
    make: Make, aliases: list[str]
) -> None:
    deployment = make("1")
    deployed = deploy(deployment)
    assert (deployed.already, deployed.previous, deployed.answers) == (False, None, 3)
    assert 0 <= deployed.difference <= 0.02
    assert pointed_models(deployment.root)["demo"].digest == deployment.digest
    assert deployed.pointer.path == f"1-{deployment.digest[:12]}"
    assert tree_sha256(deployment.root / "demo" / deployed.pointer.path) == deployment.digest
    assert aliases == ["1"]
    assert no_server_runs(deployment.root)

    # the same again: no server is started, no image is read
    def never() -> Any:
        raise AssertionError("asked for known answers")

    again = deploy(
        make(
            "1",
            champion_digest=lambda: deployment.digest,
            python=Path("absent"),
            known_answers=never,
        )
    )
    assert again.already
    assert aliases == ["1"]


def test_wrong_answers_leave_the_old_version_in_service(
    make: Make, aliases: list[str], saved_models: dict[str, Path]
) -> None:
    deployment = make("2", known_answers=make("1").known_answers)
    old = install(deployment.root, "1", saved_models["1"])
    with pytest.raises(StageError, match=r"differ from the offline predictions .* image 1 by"):
        deploy(deployment)
    assert pointed_models(deployment.root)["demo"] == old
    assert aliases == []
    assert no_server_runs(deployment.root)


def test_a_registry_that_fails_undoes_the_switch(make: Make, saved_models: dict[str, Path]) -> None:
    def away() -> None:
        raise StageError("MLflow is away")

    deployment = make("2", set_champion=away)
    old = install(deployment.root, "1", saved_models["1"])
    with pytest.raises(StageError, match="MLflow is away"):
        deploy(deployment)
    assert pointed_models(deployment.root)["demo"] == old


def test_a_running_server_that_does_not_switch_undoes_the_switch(
    make: Make, aliases: list[str], saved_models: dict[str, Path]
) -> None:
    # nobody listens on port 9
    deployment = make("2", server_url="http://127.0.0.1:9", startup_seconds=20)
    old = install(deployment.root, "1", saved_models["1"])
    with pytest.raises(StageError, match=r"127\.0\.0\.1:9"):
        deploy(deployment)
    assert pointed_models(deployment.root)["demo"] == old
    assert aliases == []


def test_files_other_than_those_judged_are_refused_before_any_server_starts(
    make: Make, tmp_path: Path, saved_models: dict[str, Path]
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(saved_models["1"], changed)
    (changed / "model.json").write_text("{}")
    deployment = make("1", source=changed, python=Path("absent"))
    with pytest.raises(Altered, match="not those that were judged") as refused:
        deploy(deployment)
    # exit code 65: a retry would find the same
    assert is_bad_input(refused.value.exit_code)
    assert pointed_models(deployment.root) == {}
    assert [each.name for each in (deployment.root / "demo").iterdir()] == [".lock"]


def test_without_a_serving_environment_the_way_out_is_told(make: Make) -> None:
    with pytest.raises(StageError, match="TRUSTED_RETRAINING_SERVING_PYTHON"):
        deploy(make("1", python=Path("absent/python")))


def test_without_known_answers_nothing_is_deployed(make: Make) -> None:
    deployment = make("1", known_answers=list)
    with pytest.raises(StageError, match="no known answers"):
        deploy(deployment)
    assert pointed_models(deployment.root) == {}


def test_a_second_deployment_of_the_same_model_has_to_wait(make: Make) -> None:
    def nested() -> Any:
        deploy(make("1"))

    with pytest.raises(StageError, match="another deployment of this model is under way"):
        deploy(make("1", known_answers=nested))


DEPLOY_AND_HANG = """
import sys, time
from pathlib import Path
from tasks.serving.files import Pointer
from tasks.serving.probe import probe_server
root, python, digest = sys.argv[1:]
pointer = Pointer(version="1", digest=digest, path="1")
with probe_server(python=Path(python), root=Path(root), model="demo", pointer=pointer,
                  startup_seconds=120) as client:
    print(client.url, flush=True)
    time.sleep(600)
"""


def test_kill_9_leaves_no_server_behind(
    make: Make, serving_python: Path, saved_models: dict[str, Path]
) -> None:
    deployment = make("1")
    install(deployment.root, "1", saved_models["1"])
    process = subprocess.Popen(
        [sys.executable, "-c", DEPLOY_AND_HANG, deployment.root, serving_python, deployment.digest],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"http://127.0.0.1:")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert no_server_runs(deployment.root)


def test_a_deployment_killed_between_switch_and_alias_is_completed_by_its_retry(
    make: Make, aliases: list[str], saved_models: dict[str, Path]
) -> None:
    deployment = make("2", champion_digest=lambda: tree_sha256(saved_models["1"]))
    old = install(deployment.root, "1", saved_models["1"])
    new = install(deployment.root, "2", saved_models["2"])
    write_pointer(deployment.root / "demo", old, name="previous.json")
    deployed = deploy(deployment)
    assert (deployed.already, deployed.previous) == (False, old)
    assert aliases == ["2"]
    assert read_pointer(deployment.root / "demo") == new


def test_only_the_last_three_versions_stay_on_disk(
    make: Make, saved_models: dict[str, Path]
) -> None:
    deployment = make("2")
    folder = deployment.root / "demo"
    install(deployment.root, "1", saved_models["1"])
    for age, name in enumerate(("old-c", "old-b", "old-a")):
        (folder / name).mkdir()
        os.utime(folder / name, (age, age))
    # in service, although it came first
    os.utime(folder / "1", (0, 0))
    deploy(deployment)
    new = f"2-{deployment.digest[:12]}"
    assert {each.name for each in folder.iterdir() if each.is_dir()} == {"1", new, "old-a"}


def test_a_champion_named_while_the_new_version_was_asked_stops_the_switch(
    make: Make, aliases: list[str], saved_models: dict[str, Path]
) -> None:
    asked = []

    def champion_digest() -> str:
        asked.append("")
        if len(asked) > 1:
            raise StageError("version 7 became champion after the verdict was given")
        return ""

    deployment = make("2", champion_digest=champion_digest)
    old = install(deployment.root, "1", saved_models["1"])
    with pytest.raises(StageError, match="version 7 became champion"):
        deploy(deployment)
    assert pointed_models(deployment.root)["demo"] == old
    assert aliases == []
