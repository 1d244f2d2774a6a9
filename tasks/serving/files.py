"""What lies below the serving root. Standard library only: the model server imports it too.

``<root>/<model>/<version>-<digest>/`` holds a SavedModel, and is never changed once it is there;
``<root>/<model>/champion.json`` says which one serves. Replacing that file is the switch.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

POINTER, PREVIOUS = "champion.json", "previous.json"
"""What serves, and what served before it: the way back."""


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """Which version of a model serves.

    Attributes
    ----------
    version : str
        Registered version.
    digest : str
        Tree digest of its folder; a server refuses a folder that has another.
    path : str
        Folder, relative to the model's.
    trained_on : str
        SHA-256 of the record beside it of what the model was trained on; empty where there is none,
        and in a pointer of an earlier release.
    """

    version: str
    digest: str
    path: str
    # another record is no reason to load the model again
    trained_on: str = field(default="", compare=False)


def folder_names(version: str, digest: str) -> Iterator[str]:
    """Return names for a model's folder, the first for use unless it holds something else.

    The version alone would not do: it is unique in one registry only, and a registry that is set up
    anew counts from 1 again.
    """
    short = digest[:12]
    name = version if version.endswith(short) else f"{version}-{short}"
    yield name
    for number in count(2):
        yield f"{name}.{number}"


def tree_digest(folder: Path) -> str:
    """Return the digest of a folder: of its sorted ``path sha256`` lines.

    Equals ``tasks.contract.tree_sha256``, which the server's environment cannot import.
    """
    lines = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file() or each.is_symlink()):
        if path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        else:
            digest = hashlib.sha256(b"link to " + os.fsencode(os.readlink(path))).hexdigest()
        lines.append(f"{path.relative_to(folder).as_posix()} {digest}\n")
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def read_pointer(model_folder: Path, *, name: str = POINTER) -> Pointer | None:
    """Return which version of a model serves; None when there is no readable pointer."""
    try:
        return parse_pointer((model_folder / name).read_bytes())
    except OSError:
        return None


def parse_pointer(content: bytes) -> Pointer | None:
    """Return the pointer that a file holds; None when it cannot be read."""
    try:
        document = json.loads(content)
        known = {name: str(document[name]) for name in ("version", "digest", "path")}
        return Pointer(**known, trained_on=str(document.get("trained_on", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_what_serves(model_folder: Path) -> Pointer | None:
    """Return which version of a model serves; None only when there is no pointer at all.

    Raises
    ------
    ValueError
        There is a pointer, but it cannot be read.
    """
    path = model_folder / POINTER
    # a link that leads nowhere is a pointer too
    if not os.path.lexists(path):
        return None
    found = read_pointer(model_folder)
    if found is None or not (found.version and found.path):
        raise ValueError(f"{path}: cannot be read, so nothing tells what serves")
    return found


def write_pointer(model_folder: Path, pointer: Pointer | None, *, name: str = POINTER) -> None:
    """Switch to a version at once; None takes the model out of service."""
    if pointer is None:
        (model_folder / name).unlink(missing_ok=True)
        return
    document = asdict(pointer)
    if not pointer.trained_on:
        del document["trained_on"]
    write_json(model_folder / name, document)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file so that a reader sees the old text or the new one."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            json.dump(document, stream)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def pointed_models(root: Path) -> dict[str, Pointer]:
    """Return every model below the root that has a readable pointer."""
    found = {}
    if root.is_dir():
        for folder in sorted(root.iterdir()):
            pointer = read_pointer(folder)
            if pointer is not None:
                found[folder.name] = pointer
    return found
