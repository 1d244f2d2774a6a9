"""Fingerprints of what determines a result, and digests of what came out."""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem

from tasks.contract.records import Output

_BLOCK = 2**20


def fingerprint(*, stage: str, config: Any, inputs: dict[str, str], code: str, state: str) -> str:
    """Hash everything that determines a stage's result.

    Parameters
    ----------
    stage : str
        Stage name.
    config : object
        JSON-able part of the pipeline that the stage reads.
    inputs : dict of str to str
        Digest of each stage read.
    code : str
        Code version of the modules used.
    state : str
        Anything outside the run that matters: the source's listing, the champion's digest.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    document = [stage, config, sorted(inputs.items()), code, state]
    return sha256_text(json.dumps(document, sort_keys=True, default=str))


def describe_outputs(folder: Path, *, skip: tuple[str, ...] = ()) -> list[Output]:
    """List what a stage left in its folder: each file, and each top-level folder as one entry."""
    outputs = []
    for entry in sorted(folder.iterdir()):
        if entry.name in (*skip, "manifest.json", "failure.json") or entry.name.startswith("."):
            continue
        outputs.append(_describe_tree(entry) if entry.is_dir() else _describe_file(entry))
    return outputs


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes, in hexadecimal digits.

    Of a path that is no UTF-8, as the file system gives it, those are the bytes on disk.
    """
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def tree_sha256(folder: Path) -> str:
    """Return the digest of a folder: of its sorted ``path sha256`` lines."""
    return _tree_digest(tree_files(folder))


def tree_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder by its path there, sorted.

    A link to a folder is one of them, with the digest of where it leads: what is behind it is not
    part of the folder.
    """
    return {p.relative_to(folder).as_posix(): _content_sha256(p) for p in _files_below(folder)}


def stored_tree_sha256(fs: AbstractFileSystem, folder: str) -> str:
    """Return the digest that :func:`tree_sha256` gives of a folder's copy, under any filesystem.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
        Where the folder is.
    folder : str
        Its path there.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or it is empty.
    """
    return _tree_digest(stored_tree_files(fs, folder))


def stored_tree_files(fs: AbstractFileSystem, folder: str) -> dict[str, str]:
    """Return what :func:`tree_files` lists of a folder's copy, under any filesystem.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
        Where the folder is.
    folder : str
        Its path there.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or it is empty.
    """
    fs.invalidate_cache()
    root = folder.rstrip("/")
    # by parts, as paths are sorted on disk
    paths = sorted(PurePosixPath(path) for path in fs.find(root))
    if not paths:
        raise FileNotFoundError(root)
    files = {}
    for path in paths:
        with fs.open(str(path), "rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(_BLOCK):
                digest.update(block)
        files[path.relative_to(root).as_posix()] = digest.hexdigest()
    return files


def now() -> str:
    """Return the time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _describe_file(path: Path) -> Output:
    return Output(path=path.name, bytes=path.stat().st_size, sha256=sha256_file(path))


def _describe_tree(folder: Path) -> Output:
    files = _files_below(folder)
    return Output(
        path=f"{folder.name}/",
        bytes=sum(p.stat().st_size for p in files if p.is_file()),
        sha256=tree_sha256(folder),
        files=len(files),
    )


def _files_below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() or p.is_symlink())


def _content_sha256(path: Path) -> str:
    return sha256_file(path) if path.is_file() else sha256_text(f"link to {os.readlink(path)}")


def _tree_digest(files: dict[str, str]) -> str:
    return sha256_text("".join(f"{name} {digest}\n" for name, digest in files.items()))
