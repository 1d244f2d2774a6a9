"""Makes a source readable here: a folder as it is, an archive unpacked, an address fetched."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.contract import BadConfig, BadInput, NoInput
from tasks.data.archives import is_archive, unpack
from tasks.data.download import download, remote_state
from tasks.data.file_kinds import kind_of_file
from tasks.data.names import is_plain_path
from tasks.data.objects import fetch_objects, is_object_store, listing_digest

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")


def fetch(uri: str, scratch: Path, *, parts: Sequence[str]) -> Path:
    """Return a local folder with the contents of a source.

    Parameters
    ----------
    uri : str
        Folder or archive, here or in an object store, or http(s) address of an archive.
    scratch : Path
        Where downloads and unpacked files go.
    parts : sequence of str
        Files and folders of the source that are needed; only they are fetched from an object store.
        Archives often wrap everything in one folder: that folder is entered when the first of them
        is found there.

    Raises
    ------
    NoInput
        There is nothing at the address.
    BadInput
        It is neither a folder nor an archive, or an archive that must not be unpacked.
    """
    if is_remote(uri):
        scratch.mkdir(parents=True, exist_ok=True)
        path = scratch / _remote_name(uri)
        download(uri, path)
    elif is_object_store(uri):
        scratch.mkdir(parents=True, exist_ok=True)
        path = fetch_objects(uri, parts, scratch / "objects")
    else:
        path = local_path(uri)
    if path.is_dir():
        return _entered(path, parts[0])
    if not is_archive(path):
        allowed = ", ".join(ARCHIVE_SUFFIXES)
        raise BadInput(f"{uri}: is neither a folder nor an archive ({allowed}){_what_it_is(path)}")
    return _entered(unpack(path, scratch / "unpacked"), parts[0])


def fetch_file_or_folder(
    uri: str,
    scratch: Path,
    *,
    parts: Sequence[str],
    wanted: Callable[[Path], bool],
    called: str,
) -> tuple[Path, str | None]:
    """Return a local folder with the contents of a source and, of a single file, its name there.

    Parameters
    ----------
    uri, scratch, parts
        As for :func:`fetch`. Whether an address is that of a file or of a folder is found out by
        looking, never by its ending.
    wanted : callable
        Returns whether a file is of the kind that is read as it is.
    called : str
        What such a file is, for the message.

    Raises
    ------
    NoInput
        There is nothing at the address.
    BadInput
        It is neither such a file, nor a folder, nor an archive.
    """
    name = urlsplit(uri).path.rstrip("/").rpartition("/")[2]
    name = name if is_plain_path(name) else "download"
    if is_remote(uri):
        path = scratch / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        download(uri, path)
    elif is_object_store(uri):
        scratch.mkdir(parents=True, exist_ok=True)
        path = fetch_objects(uri, parts, scratch / "objects")
        if path.is_file():
            path = _under_name(path, scratch / "files" / name)
    else:
        path = local_path(uri)
    if path.is_dir():
        return _entered(path, parts[0]), None
    if wanted(path):
        return path.parent, path.name
    if not is_archive(path):
        allowed = ", ".join(ARCHIVE_SUFFIXES)
        raise BadInput(
            f"{uri}: is neither {called}, nor a folder, nor an archive ({allowed})"
            f"{_what_it_is(path)}"
        )
    return _entered(unpack(path, scratch / "unpacked"), parts[0]), None


def fetch_files(uri: str, names: list[str], scratch: Path) -> Path:
    """Return a local folder that holds the named files of a source.

    Parameters
    ----------
    uri : str
        As for :func:`fetch`, or http(s) address of a folder: the names are then appended to it.
    names : list of str
        Files that are needed.
    scratch : Path
        Where downloads go.

    Raises
    ------
    NoInput
        A file is not there.
    """
    if is_remote(uri) and not _looks_like_archive(uri):
        folder = scratch / "files"
        for name in names:
            download(f"{uri.rstrip('/')}/{name}", folder / name)
        return folder
    root = fetch(uri, scratch, parts=names)
    absent = [name for name in names if not (root / name).is_file()]
    if absent:
        raise NoInput(f"{uri}: holds no file {', '.join(absent)}")
    return root


def source_state(uri: str, parts: list[str], *, files: bool = False) -> str:
    """Return a text that changes with a source: its files' sizes and times, or what a server says.

    Parameters
    ----------
    uri : str
        As for :func:`fetch`.
    parts : list of str
        Files and folders of the source that are read; others do not count.
    files : bool
        The parts of an http(s) folder address are files to be asked for one by one.
    """
    if is_remote(uri):
        single = not files or _looks_like_archive(uri)
        addresses = [uri] if single else [f"{uri.rstrip('/')}/{part}" for part in parts]
        return " ".join(remote_state(address) for address in addresses)
    if is_object_store(uri):
        return listing_digest(uri, parts)
    path = local_path(uri)
    if not path.is_dir():
        return _stamp(path)
    root = _entered(path, parts[0])
    digest = hashlib.sha256()
    for line in _listing(root, parts):
        digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def is_remote(uri: str) -> bool:
    """Tell whether a URI is an http(s) address."""
    return uri.startswith(("http://", "https://"))


def local_path(uri: str, field: str = "source.uri") -> Path:
    """Return the path of a local URI.

    Parameters
    ----------
    uri : str
        Path or file:// URI.
    field : str
        Field of the pipeline file that gives it, for messages.

    Raises
    ------
    NoInput
        It does not exist.
    BadConfig
        The URI's scheme is not known.
    """
    scheme = urlsplit(uri).scheme
    if scheme not in ("", "file"):
        raise BadConfig(f"{field} {uri!r}: scheme {scheme!r} is not one of file, http, https, s3")
    path = Path(unquote(urlsplit(uri).path) if scheme else uri).absolute()
    if not path.exists():
        raise NoInput(f"{field} {uri!r}: {path} does not exist")
    return path


def _what_it_is(path: Path) -> str:
    kind = kind_of_file(path)
    return f", but {kind}" if kind else ""


def _entered(root: Path, expect: str) -> Path:
    if (root / expect).exists():
        return root
    folders = [entry for entry in root.iterdir() if entry.is_dir()]
    inside = [folder for folder in folders if (folder / expect).exists()]
    return inside[0] if len(inside) == 1 else root


def _under_name(path: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(path.absolute())
    return target


def _looks_like_archive(uri: str) -> bool:
    return urlsplit(uri).path.lower().endswith(ARCHIVE_SUFFIXES)


def _remote_name(uri: str) -> str:
    """Return a safe file name for a download; two addresses never share one."""
    digest = hashlib.sha256(uri.encode()).hexdigest()[:12]
    return f"download-{digest}"


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _listing(root: Path, parts: list[str]) -> Iterable[str]:
    for part in sorted(set(parts)):
        top = root / part
        if top.is_file():
            yield f"{part} {_stamp(top)}"
        for folder, folders, names in os.walk(top):
            folders.sort()
            relative = os.path.relpath(folder, root)
            for name in sorted(names):
                try:
                    yield f"{relative}/{name} {_stamp(Path(folder, name))}"
                except FileNotFoundError:
                    yield f"{relative}/{name} broken link"
