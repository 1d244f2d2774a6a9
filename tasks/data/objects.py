"""Sources in an object store: told apart by their listing, fetched object by object."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tasks.contract import BadInput, NoInput, open_filesystem, storage_errors, write_atomically
from tasks.storage.download import get_file

log = logging.getLogger("tasks")

PROTOCOLS = ("s3://", "s3a://")
FEW_PARTS = 8
"""Parts of one folder that are asked for one by one."""
PARALLEL_OBJECTS = 16
"""Objects on their way at a time: images are small, and what takes the time is asking."""


def is_object_store(uri: str) -> bool:
    """Tell whether a URI is an address in an object store."""
    return uri.startswith(PROTOCOLS)


def listing(uri: str, parts: Sequence[str], *, field: str = "source.uri") -> dict[str, str]:
    """Return what identifies each object of a source: its name below the address, to its tag.

    Parameters
    ----------
    uri : str
        Address of a folder, or of a single object.
    parts : sequence of str
        Files and folders of the source that are read; others are not listed.
    field : str
        Field of the pipeline file that gives the address, for messages.

    Returns
    -------
    dict of str to str
        Size and entity tag by name; a single object has the name ``""``.

    Raises
    ------
    NoInput
        There is nothing at the address.
    """
    fs, root = open_filesystem(uri)
    root = root.rstrip("/")
    found: dict[str, str] = {}
    with storage_errors(uri):
        for path, facts in _found(fs, root, parts):
            name = path[len(root) + 1 :]
            if not name.endswith("/"):
                found[name] = _tag(facts)
        if not found and fs.isfile(root):
            found[""] = _tag(fs.info(root))
    if not found:
        looked = ", ".join(parts[:5]) + (" ..." if len(parts) > 5 else "")
        raise NoInput(f"{field} {uri!r}: there is nothing; looked for {looked}")
    return found


def listing_digest(uri: str, parts: Sequence[str], *, field: str = "source.uri") -> str:
    """Return a text that changes when an object is added, replaced or removed.

    Parameters
    ----------
    uri, parts, field
        As for :func:`listing`.
    """
    digest = hashlib.sha256()
    for name, tag in sorted(listing(uri, parts, field=field).items()):
        digest.update(f"{name} {tag}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def fetch_objects(
    uri: str, parts: Sequence[str], target: Path, *, field: str = "source.uri"
) -> Path:
    """Fetch a source; objects that an earlier attempt fetched are not fetched again.

    Parameters
    ----------
    uri : str
        Address of a folder, or of a single object, an archive.
    parts : sequence of str
        Files and folders of the source that are read.
    target : Path
        Folder for them.
    field : str
        Field of the pipeline file that gives the address, for messages.

    Returns
    -------
    Path
        The folder; of a single object, its file.

    Raises
    ------
    NoInput
        There is nothing at the address.
    BadInput
        An object's name cannot be a file's.
    """
    found = listing(uri, parts, field=field)
    fs, root = open_filesystem(uri)
    single = "" in found
    places = {name: target / (name or "archive") for name in found}
    for name in found:
        if not single and any(part in ("", ".", "..") for part in name.split("/")):
            raise BadInput(f"{uri}: object {name[:200]!r} is no plain path; rename or remove it")
    _forget_changed(places, found, target)
    wanted = [(f"{root.rstrip('/')}/{n}" if n else root, p) for n, p in places.items()]
    wanted = [(path, place) for path, place in wanted if not place.exists()]
    with storage_errors(uri), ThreadPoolExecutor(PARALLEL_OBJECTS) as pool:
        said = time.monotonic()
        futures = [pool.submit(_get, fs, path, place) for path, place in wanted]
        try:
            for number, future in enumerate(futures, 1):
                future.result()
                if time.monotonic() - said > 5:
                    said = time.monotonic()
                    log.info("fetching %s: %d of %d objects", uri, number, len(futures))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return places[""] if single else target


def _found(fs: Any, root: str, parts: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield path and facts of the objects that the parts name, or that lie below them."""
    folders: dict[str, set[str]] = {}
    for part in parts:
        folder, _, name = part.strip("/").rpartition("/")
        folders.setdefault(folder, set()).add(name)
    for folder, names in sorted(folders.items()):
        place = f"{root}/{folder}".rstrip("/")
        if len(names) <= FEW_PARTS:
            for name in sorted(names):
                yield from fs.find(f"{place}/{name}", detail=True).items()
            continue
        # one listing for all of them, and of nothing below: each would be a request of its own
        try:
            entries = fs.ls(place, detail=True)
        except FileNotFoundError:
            continue
        for facts in entries:
            path = str(facts["name"])
            if path.rpartition("/")[2] not in names:
                continue
            if facts["type"] == "directory":
                yield from fs.find(path, detail=True).items()
            else:
                yield path, facts


def _tag(facts: dict[str, Any]) -> str:
    return f"{facts.get('size')} {facts.get('ETag', '')}"


def _forget_changed(places: dict[str, Path], found: dict[str, str], target: Path) -> None:
    """Remove what an earlier attempt fetched of objects that have been replaced since."""
    note = target.with_name(f"{target.name}.listing.json")
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        known = {}
    for name, place in places.items():
        if known.get(name) != found[name]:
            place.unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(note, json.dumps(found))


def _get(fs: Any, path: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name[:200]}.part")
    get_file(fs, path, draft)
    draft.replace(place)
