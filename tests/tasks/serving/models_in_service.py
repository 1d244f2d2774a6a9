"""Models in service, put there without asking, and what is on disk of them."""

import shutil
from pathlib import Path

from tasks.contract import tree_sha256
from tasks.serving.files import POINTER, PREVIOUS, Pointer, read_pointer, write_pointer


def install(root: Path, version: str, folder: Path, *, name: str = POINTER) -> Pointer:
    """Put a version into service, or make it the one before.

    Parameters
    ----------
    root : Path
        Folder of the served models.
    version : str
        Its version, by which alone its folder is named, as an earlier release did.
    folder : Path
        Its SavedModel.
    name : str
        Pointer that is to name it.
    """
    shutil.copytree(folder, root / "demo" / version)
    pointer = Pointer(version=version, digest=tree_sha256(folder), path=version)
    write_pointer(root / "demo", pointer, name=name)
    return pointer


def in_service(root: Path) -> dict[str, bytes]:
    """Return the content of both pointers and of every file in the folders that they name."""
    folder = root / "demo"
    pointers = {name: folder / name for name in (POINTER, PREVIOUS)}
    found = {name: path.read_bytes() for name, path in pointers.items() if path.exists()}
    for name in found.copy():
        pointer = read_pointer(folder, name=name)
        assert pointer is not None
        for path in (folder / pointer.path).rglob("*"):
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found
