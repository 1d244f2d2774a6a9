"""What serves, and the way back, survive every deployment that fails."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.contract import StageError, tree_sha256
from tasks.serving.client import KnownAnswer
from tasks.serving.deployment import Deployment, deploy
from tasks.serving.files import PREVIOUS, pointed_models, read_pointer
from tests.tasks.serving.models_in_service import in_service, install

REPOSITORY = Path(__file__).parents[3]
Make = Callable[..., Deployment]


@pytest.fixture
def make(
    tmp_path: Path,
    serving_python: Path,
    saved_models: dict[str, Path],
    images: list[bytes],
    expected: dict[str, Any],
) -> Make:
    """Return a function that makes the deployment of model 2 as any version."""

    def made(version: str, **changes: Any) -> Deployment:
        answers = [
            KnownAnswer(image_id=f"image {index}", image=image, probabilities=row)
            for index, (image, row) in enumerate(zip(images, expected["2"], strict=True))
        ]
        deployment = Deployment(
            model="demo",
            version=version,
            digest=tree_sha256(saved_models["2"]),
            source=saved_models["2"],
            root=tmp_path / "served",
            python=serving_python,
            server_url="",
            # JPEG decoders differ by a grey level
            tolerance=0.02,
            startup_seconds=120,
            known_answers=lambda: answers,
            champion_digest=lambda: "",
            set_champion=lambda: None,
        )
        return dataclasses.replace(deployment, **changes)

    return made


@pytest.fixture
def other(tmp_path: Path, saved_models: dict[str, Path]) -> Path:
    """A third model, which served before model 1."""
    folder = tmp_path / "other"
    shutil.copytree(saved_models["1"], folder)
    (folder / "note.txt").write_text("the one before")
    return folder


@pytest.fixture
def served(tmp_path: Path, saved_models: dict[str, Path], other: Path) -> dict[str, bytes]:
    """Version 1 serves, version 0 did before; all that is on disk of both."""
    root = tmp_path / "served"
    install(root, "0", other, name=PREVIOUS)
    install(root, "1", saved_models["1"])
    return in_service(root)


def away() -> None:
    raise StageError("MLflow is away")


def wrong(make: Make, version: str) -> dict[str, Any]:
    answers = make(version).known_answers()
    return {
        "known_answers": lambda: [
            dataclasses.replace(each, probabilities=tuple(reversed(each.probabilities)))
            for each in answers
        ]
    }


@pytest.mark.parametrize(
    ("failure", "version"),
    [
        ("the registry fails", "2"),
        # a registry that was set up anew counts from 1 again
        ("the registry fails", "1"),
        ("the registry fails", "0"),
        ("the server does not switch", "1"),
        ("the known answers differ", "1"),
        ("there are no known answers", "1"),
        ("the files are altered", "1"),
        ("another became champion", "1"),
    ],
)
def test_a_failed_deployment_leaves_everything_in_service_as_it_was(
    make: Make, tmp_path: Path, served: dict[str, bytes], failure: str, version: str
) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(make(version).source, altered)
    (altered / "model.json").write_text("{}")
    changes: dict[str, Any] = {
        "the registry fails": {"set_champion": away},
        # nobody listens on port 9
        "the server does not switch": {"server_url": "http://127.0.0.1:9", "startup_seconds": 20},
        "the known answers differ": wrong(make, version),
        "there are no known answers": {"known_answers": list},
        "the files are altered": {"source": altered},
        "another became champion": {"champion_digest": away},
    }[failure]
    with pytest.raises(StageError):
        deploy(make(version, **changes))
    assert in_service(tmp_path / "served") == served


def test_an_altered_folder_is_left_alone_and_another_one_is_used(
    make: Make, tmp_path: Path
) -> None:
    root = tmp_path / "served"
    first = deploy(make("1")).pointer
    model = root / "demo" / first.path / "model.json"
    model.write_text("{}")
    second = deploy(make("1")).pointer
    assert second.path == f"{first.path}.2"
    assert model.read_text() == "{}"
    assert tree_sha256(root / "demo" / second.path) == second.digest
    assert read_pointer(root / "demo") == second


def test_a_version_in_a_folder_of_an_earlier_release_is_used_as_it_is(
    make: Make, tmp_path: Path, saved_models: dict[str, Path]
) -> None:
    root = tmp_path / "served"
    pointer = install(root, "2", saved_models["2"])
    folders = {each.name for each in (root / "demo").iterdir() if each.is_dir()}
    assert deploy(make("2")).pointer == pointer
    assert {each.name for each in (root / "demo").iterdir() if each.is_dir()} == folders


DEPLOY_AND_DIE = """
import json, os, signal, sys
from pathlib import Path
from tasks.serving.client import KnownAnswer
from tasks.serving import deployment, switch

root, source, python, digest, answers, step = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if step == "before the switch":
    deployment._switch = lambda *_: die()
if step == "after the journal":
    switch.write_pointer = lambda *_, **__: die()
if step == "within the switch":
    write = switch.write_pointer
    def first(folder, pointer, **more):
        write(folder, pointer, **more) if more else die()
    switch.write_pointer = first
deployment.deploy(deployment.Deployment(
    model="demo", version="1", digest=digest, source=Path(source), root=Path(root),
    python=Path(python), server_url="", tolerance=0.02, startup_seconds=120,
    known_answers=lambda: [
        KnownAnswer(image_id=i, image=bytes.fromhex(image), probabilities=tuple(row))
        for i, image, row in json.loads(answers)
    ],
    champion_digest=lambda: "", set_champion=die,
))
"""


@pytest.mark.parametrize(
    "step", ["before the switch", "after the journal", "within the switch", "before the alias"]
)
def test_a_kill_between_loses_nothing_and_a_failing_retry_restores_every_byte(
    make: Make, tmp_path: Path, served: dict[str, bytes], step: str
) -> None:
    import json

    deployment = make("1")
    answers = [
        (each.image_id, each.image.hex(), each.probabilities) for each in deployment.known_answers()
    ]
    words = [deployment.root, deployment.source, deployment.python, deployment.digest]
    killed = subprocess.run(
        [sys.executable, "-c", DEPLOY_AND_DIE, *words, json.dumps(answers), step],
        cwd=REPOSITORY,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL
    # whichever pointer is there, its folder is whole
    root = deployment.root
    pointer = pointed_models(root)["demo"]
    assert tree_sha256(root / "demo" / pointer.path) == pointer.digest
    assert {path: served[path] for path in served if path.startswith(("0/", "1/"))} == {
        path: (root / "demo" / path).read_bytes()
        for path in served
        if path.startswith(("0/", "1/"))
    }

    with pytest.raises(StageError, match="MLflow is away"):
        deploy(make("1", set_champion=away))
    assert in_service(root) == served
    # and one that succeeds goes on from there
    deployed = deploy(make("1"))
    assert deployed.previous is not None and deployed.previous.version == "1"
    assert not os.path.lexists(root / "demo/.switch.json")
