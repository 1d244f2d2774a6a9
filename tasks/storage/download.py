"""Fetches committed outputs, and believes none before its digest is that of the manifest."""

import logging
import shutil
from pathlib import Path
from typing import Any

from tasks.contract import Altered, Output, sha256_file, storage_errors, stored_name
from tasks.contract.filesystem import BLOCK_BYTES, is_s3
from tasks.storage.tar_stream import extract
from tasks.storage.verified import altered

log = logging.getLogger("tasks")

ATTEMPTS = 2
"""Times that an output is fetched before it is called altered: the first may have been garbled."""

PARALLEL_RANGES = 4


def fetch_output(fs: Any, folder: str, output: Output, target: Path, *, stage: str) -> None:
    """Fetch a committed file, or a folder from its tar.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
        The store.
    folder : str
        The stage's folder on it.
    output : Output
        As the manifest lists it.
    target : Path
        Where to put it; appears as a whole or not at all.
    stage : str
        For messages.

    Raises
    ------
    NoInput
        It is not there any more.
    Altered
        It is not what was committed.
    """
    path = f"{folder}/{stored_name(output, local=False)}"
    uri = str(fs.unstrip_protocol(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.part")
    problem = ""
    for _ in range(ATTEMPTS):
        _remove(draft)
        with storage_errors(uri):
            problem = _fetched(fs, path, output, draft)
        if not problem:
            draft.rename(target)
            return
        log.warning("%s: %s", uri, problem)
    _remove(draft)
    raise altered(uri, problem, stage=stage)


def get_file(fs: Any, path: str, target: Path) -> None:
    """Fetch one object, a large one in ranges side by side."""
    options = {"chunksize": BLOCK_BYTES, "max_concurrency": PARALLEL_RANGES} if is_s3(fs) else {}
    fs.get_file(path, str(target), **options)


def _fetched(fs: Any, path: str, output: Output, draft: Path) -> str:
    """Fetch an output; return what is wrong with it."""
    if output.path.endswith("/"):
        try:
            with fs.open(path, "rb", block_size=BLOCK_BYTES) as stream:
                digest = extract(stream, draft, most_bytes=output.bytes)
        except Altered as error:
            return str(error)
    else:
        get_file(fs, path, draft)
        digest = sha256_file(draft)
    if digest == output.sha256:
        return ""
    return f"sha256 is {digest[:12]}, the manifest says {output.sha256[:12]}"


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft)
    else:
        draft.unlink(missing_ok=True)
