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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.contract import Altered, StageError, tree_sha256
from tasks.serving.client import KnownAnswer, ServerClient
from tasks.serving.files import PREVIOUS, Pointer, folder_names, read_pointer, write_pointer
from tasks.serving.limits import Limits
from tasks.serving.probe import probe_server
from tasks.serving.switch import Switch, forget

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
        other deployment can interfere, and again right before the switch; raises when this one
        must not go on.
    set_champion : callable
        Moves the registry's alias to this version.
    registry_before : callable
        Returns what the registry says of its champion, as plain values.
    return_champion : callable
        Lets the registry say again what ``registry_before`` returned, where it names this version.
    trained_on : str
        SHA-256 of the record of what the model was trained on; empty when there is none.
    limits : Limits
        Bounds on requests.
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
    registry_before: Callable[[], dict[str, Any]] = dict
    return_champion: Callable[[dict[str, Any]], None] = lambda _: None
    trained_on: str = ""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What became of it.

    Attributes
    ----------
    already : bool
        The version served before; nothing was done.
    pointer : Pointer
        What serves now.
    previous : Pointer or None
        What served before.
    answers : int
        Known answers asked.
    difference : float
        Largest difference found of a probability.
    """

    already: bool
    pointer: Pointer
    previous: Pointer | None
    answers: int = 0
    difference: float = 0.0


def deploy(deployment: Deployment) -> Deployed:
    """Put a version into service; on any failure the version before goes on serving.

    Raises
    ------
    StageError
        Says at which step it failed; pointers, alias and history are as before, or the text says
        which could not be put back.
    """
    folder = deployment.root / deployment.model
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        champion_digest = deployment.champion_digest()
        current = read_pointer(folder)
        if (
            current is not None
            and champion_digest == deployment.digest
            and _serves_already(deployment, folder, current)
        ):
            log.info("%s version %s is serving already", deployment.model, deployment.version)
            # an earlier attempt was killed when all was done
            forget(folder)
            if deployment.trained_on and not current.trained_on:
                current = replace(current, trained_on=deployment.trained_on)
                write_pointer(folder, current)
            previous = read_pointer(folder, name=PREVIOUS)
            return Deployed(already=True, pointer=current, previous=previous)
        pointer = Pointer(
            version=deployment.version,
            digest=deployment.digest,
            path=put_beside(
                folder,
                version=deployment.version,
                digest=deployment.digest,
                source=deployment.source,
                current=current,
            ),
            trained_on=deployment.trained_on,
        )
        answers = deployment.known_answers()
        if not answers:
            raise StageError("there are no known answers to ask the model server for")
        difference = _ask_probe(deployment, pointer, answers)
        # asking took its time, and a person may have moved the alias meanwhile
        deployment.champion_digest()
        switch = Switch.prepare(
            folder,
            pointer,
            registry=deployment.registry_before(),
            max_pixels=deployment.limits.pixels,
        )
        _switch(deployment, switch, answers)
        _prune(folder)
    return Deployed(
        already=False,
        pointer=pointer,
        previous=switch.previous,
        answers=len(answers),
        difference=difference,
    )


def _serves_already(deployment: Deployment, folder: Path, pointer: Pointer) -> bool:
    if pointer.digest != deployment.digest or not _holds(folder / pointer.path, pointer.digest):
        return False
    if not deployment.server_url:
        return True
    try:
        with ServerClient(deployment.server_url) as client:
            serving = client.served(deployment.model).get("serving") or {}
            return bool(serving.get("digest") == pointer.digest)
    except StageError as error:
        # a server that is away cannot be helped by deploying again what is there already
        log.warning("%s", error)
        return True


def put_beside(
    folder: Path, *, version: str, digest: str, source: Path, current: Pointer | None
) -> str:
    """Return the name of a folder with a model, copied there at once or not at all.

    A folder that is there is used as it is, or left alone: something may serve from it. Whoever
    calls holds the lock of :func:`alone`.

    Parameters
    ----------
    folder : Path
        The model's, below the serving root.
    version, digest : str
        The model that was judged.
    source : Path
        SavedModel folder to copy from.
    current : Pointer or None
        What serves.

    Raises
    ------
    Altered
        The source is not the model of that digest.
    """
    for left in folder.glob(".incoming.*"):
        shutil.rmtree(left, ignore_errors=True)
    # an earlier release named folders by their version alone
    for name in (*([current.path] if current else []), version):
        if _holds(folder / name, digest):
            return name
    for name in folder_names(version, digest):
        if _holds(folder / name, digest):
            return name
        if not os.path.lexists(folder / name):
            _copy(source, digest, folder / name)
            return name
        log.warning("%s: was altered, and is left alone", folder / name)
    raise AssertionError("unreachable")


def _holds(folder: Path, digest: str) -> bool:
    return folder.is_dir() and tree_sha256(folder) == digest


def _copy(source: Path, digest: str, target: Path) -> None:
    draft = target.parent / f".incoming.{uuid.uuid4().hex}"
    try:
        shutil.copytree(source, draft)
        if tree_sha256(draft) != digest:
            raise Altered(
                f"{source}: the files are not those that were judged (digest "
                f"{digest[:12]}): run stage 'train' again with --force, and the stages "
                "after it"
            )
        # copytree keeps the age of the source; pruning goes by when a version came here
        os.utime(draft)
        os.replace(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _ask_probe(deployment: Deployment, pointer: Pointer, answers: Sequence[KnownAnswer]) -> float:
    with probe_server(
        python=deployment.python,
        root=deployment.root,
        model=deployment.model,
        pointer=pointer,
        startup_seconds=deployment.startup_seconds,
        limits=deployment.limits,
    ) as client:
        difference = client.check_known_answers(
            deployment.model, deployment.digest, answers, tolerance=deployment.tolerance
        )
    log.info(
        "%s version %s: %d known answers over V1 and V2, largest difference %.2g",
        *(deployment.model, deployment.version, len(answers), difference),
    )
    return difference


def _switch(deployment: Deployment, switch: Switch, answers: Sequence[KnownAnswer]) -> None:
    pointer = switch.to
    try:
        switch.take()
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
    except BaseException as error:
        failed = _undo(deployment, switch)
        if failed and isinstance(error, Exception):
            raise StageError(
                f"{error}; THE WAY BACK FAILED as well ({failed}): run stage 'deploy' again, or "
                f"look at the records with 'python -m tasks champion --model {deployment.model}'"
            ) from error
        raise
    switch.complete()


def _undo(deployment: Deployment, switch: Switch) -> str:
    """Put back what the switch changed; return why that failed, empty when it did not."""
    failed = ""
    try:
        switch.undo()
        # after the pointer: a registry that names what serves contradicts nothing
        deployment.return_champion(switch.registry)
        switch.complete()
    except Exception as error:
        # the first reason must not be lost over the second
        log.exception("%s: the way back failed", deployment.model)
        failed = str(error)
    serving = read_pointer(switch.folder)
    log.error(
        "%s: back to %s",
        deployment.model,
        f"version {serving.version}" if serving else "no version in service",
    )
    if deployment.server_url:
        with suppress(StageError), ServerClient(deployment.server_url, timeout=10) as client:
            client.switch_now(deployment.model)
    return failed


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second deployment of the same model out; a kill frees the lock."""
    with (folder / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(f"{folder}: another deployment of this model is under way") from error
        yield


def _prune(folder: Path) -> None:
    named = [read_pointer(folder), read_pointer(folder, name=PREVIOUS)]
    keep = {pointer.path for pointer in named if pointer}
    versions = [each for each in folder.iterdir() if each.is_dir() and each.name[0] != "."]
    versions.sort(key=lambda each: each.stat().st_mtime, reverse=True)
    spare = [each for each in versions if each.name not in keep]
    for old in spare[max(0, KEPT_VERSIONS - len(keep)) :]:
        log.info("removing %s", old)
        shutil.rmtree(old, ignore_errors=True)
