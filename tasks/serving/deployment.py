"""Puts a blessed version into service: beside the old one, asked first, switched last.

Killed at any instant, a second attempt ends where an undisturbed first one would have.
"""

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.contract import StageError, tree_sha256
from tasks.serving.client import KnownAnswer, ServerClient
from tasks.serving.files import PREVIOUS, Pointer, read_pointer, write_pointer
from tasks.serving.probe import probe_server

log = logging.getLogger("tasks")

KEPT_VERSIONS = 3
"""Versions of a model that stay on disk; the one in service and the one before are among them."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is put into service, and where.

    Attributes
    ----------
    model, version, digest : str
        Registered model, its version, and the tree digest that was judged.
    source : Path
        SavedModel folder to copy from.
    root : Path
        Folder of the served models.
    python : Path
        Interpreter of the serving environment.
    server_url : str
        Running model server that is to switch; empty when there is none.
    tolerance : float
        Largest difference of a probability between served and offline answer.
    startup_seconds : float
        Time a server has to become ready or to switch.
    known_answers : callable
        Returns test images with offline predictions; called only if there is something to ask.
    champion_digest : callable
        Returns the digest of the registry's champion, empty when there is none. Called once no
        other deployment can interfere; raises when this one must not go on.
    set_champion : callable
        Moves the registry's alias to this version.
    """

    model: str
    version: str
    digest: str
    source: Path
    root: Path
    python: Path
    server_url: str
    tolerance: float
    startup_seconds: float
    known_answers: Callable[[], Sequence[KnownAnswer]]
    champion_digest: Callable[[], str]
    set_champion: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What became of it.

    Attributes
    ----------
    already : bool
        The version served before; nothing was done.
    previous : Pointer or None
        What served before.
    answers : int
        Known answers asked.
    difference : float
        Largest difference found of a probability.
    """

    already: bool
    previous: Pointer | None
    answers: int = 0
    difference: float = 0.0


def deploy(deployment: Deployment) -> Deployed:
    """Put a version into service; on any failure the version before goes on serving.

    Raises
    ------
    StageError
        Says at which step it failed; pointer and alias are as before.
    """
    folder = deployment.root / deployment.model
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        # not the champion, yet served: killed between the two; the steps are idempotent
        champion_digest = deployment.champion_digest()
        current = read_pointer(folder)
        pointer = Pointer(
            version=deployment.version, digest=deployment.digest, path=deployment.version
        )
        previous = current
        if current is not None and current.digest == deployment.digest:
            # this very version: an attempt was killed after the switch, or all is done already
            previous = read_pointer(folder, name=PREVIOUS)
        if champion_digest == deployment.digest and _serves_already(deployment, folder, current):
            log.info("%s version %s is serving already", deployment.model, deployment.version)
            return Deployed(already=True, previous=previous)
        _put_beside(deployment, folder / pointer.path)
        answers = deployment.known_answers()
        if not answers:
            raise StageError("there are no known answers to ask the model server for")
        difference = _ask_probe(deployment, pointer, answers)
        _switch(deployment, folder, pointer, previous, answers)
        _prune(folder, keep={pointer.path, *([previous.path] if previous else [])})
    return Deployed(already=False, previous=previous, answers=len(answers), difference=difference)


def _serves_already(deployment: Deployment, folder: Path, pointer: Pointer | None) -> bool:
    if pointer is None or pointer.digest != deployment.digest:
        return False
    target = folder / pointer.path
    if not target.is_dir() or tree_sha256(target) != deployment.digest:
        return False
    if not deployment.server_url:
        return True
    try:
        with ServerClient(deployment.server_url) as client:
            serving = client.served(deployment.model).get("serving") or {}
            return bool(serving.get("digest") == deployment.digest)
    except StageError as error:
        # a server that is away cannot be helped by deploying again what is there already
        log.warning("%s", error)
        return True


def _put_beside(deployment: Deployment, target: Path) -> None:
    """Copy the model to its place at once or not at all, and check that it is the judged one."""
    for left in target.parent.glob(".incoming.*"):
        shutil.rmtree(left, ignore_errors=True)
    if target.is_dir() and tree_sha256(target) == deployment.digest:
        return
    draft = target.parent / f".incoming.{uuid.uuid4().hex}"
    try:
        shutil.copytree(deployment.source, draft)
        if tree_sha256(draft) != deployment.digest:
            raise StageError(
                f"{deployment.source}: the files are not those that were judged (digest "
                f"{deployment.digest[:12]}): train again"
            )
        # copytree keeps the age of the source; pruning goes by when a version came here
        os.utime(draft)
        if target.exists():
            # an older copy that somebody changed
            os.replace(target, target.parent / f".incoming.{uuid.uuid4().hex}")
        os.replace(draft, target)
    finally:
        for left in target.parent.glob(".incoming.*"):
            shutil.rmtree(left, ignore_errors=True)


def _ask_probe(deployment: Deployment, pointer: Pointer, answers: Sequence[KnownAnswer]) -> float:
    with probe_server(
        python=deployment.python,
        root=deployment.root,
        model=deployment.model,
        pointer=pointer,
        startup_seconds=deployment.startup_seconds,
    ) as client:
        difference = client.check_known_answers(
            deployment.model, deployment.digest, answers, tolerance=deployment.tolerance
        )
    log.info(
        "%s version %s: %d known answers over V1 and V2, largest difference %.2g",
        *(deployment.model, deployment.version, len(answers), difference),
    )
    return difference


def _switch(
    deployment: Deployment,
    folder: Path,
    pointer: Pointer,
    previous: Pointer | None,
    answers: Sequence[KnownAnswer],
) -> None:
    # the way back is on disk before the step, so that a kill cannot lose it
    write_pointer(folder, previous, name=PREVIOUS)
    write_pointer(folder, pointer)
    try:
        if deployment.server_url:
            with ServerClient(deployment.server_url) as client:
                client.switch_now(deployment.model)
                client.wait_until_served(
                    deployment.model, pointer.digest, seconds=deployment.startup_seconds
                )
                client.check_known_answers(
                    deployment.model, pointer.digest, answers, tolerance=deployment.tolerance
                )
            log.info("%s: version %s serves there", deployment.server_url, pointer.version)
        # last: whoever follows the alias finds a version that serves
        deployment.set_champion()
    except BaseException:
        _restore(deployment, folder, previous)
        raise


def _restore(deployment: Deployment, folder: Path, previous: Pointer | None) -> None:
    write_pointer(folder, previous)
    log.error(
        "%s: back to %s",
        deployment.model,
        f"version {previous.version}" if previous else "no version in service",
    )
    if deployment.server_url:
        with suppress(StageError), ServerClient(deployment.server_url, timeout=10) as client:
            client.switch_now(deployment.model)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second deployment of the same model out; a kill frees the lock."""
    with (folder / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(f"{folder}: another deployment of this model is under way") from error
        yield


def _prune(folder: Path, *, keep: set[str]) -> None:
    versions = [each for each in folder.iterdir() if each.is_dir() and each.name[0] != "."]
    versions.sort(key=lambda each: each.stat().st_mtime, reverse=True)
    spare = [each for each in versions if each.name not in keep]
    for old in spare[max(0, KEPT_VERSIONS - len(keep)) :]:
        log.info("removing %s", old)
        shutil.rmtree(old, ignore_errors=True)
