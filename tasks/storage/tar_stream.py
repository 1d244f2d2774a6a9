"""A folder as one uncompressed tar, written and read as a stream: it never lies on disk."""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tasks.contract import Altered, StageError, sha256_text

_BLOCK = tarfile.BLOCKSIZE
_PIECE = 2**20


class TarStream:
    """Reads a folder's files as a tar, in an order and with headers that depend on them alone.

    The same files make the same bytes, so that an upload that was cut off can go on.

    Parameters
    ----------
    folder : Path
        Its files, in folders below as well; empty folders are left out.

    Attributes
    ----------
    size : int
        Bytes of the whole tar, known before it is read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self._members = [(path, path.stat().st_size) for path in files]
        self.size = 2 * _BLOCK + sum(
            len(self._header(path, size)) + size + -size % _BLOCK for path, size in self._members
        )
        self._pieces = self._read_all()
        self._left = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes: as many as asked for, except at the end."""
        found, length = [self._left], len(self._left)
        while length < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            found.append(piece)
            length += len(piece)
        whole = b"".join(found)
        self._left = whole[size:]
        return whole[:size]

    def _read_all(self) -> Iterator[bytes]:
        for path, size in self._members:
            yield self._header(path, size)
            read = 0
            with path.open("rb") as stream:
                while piece := stream.read(_PIECE):
                    read += len(piece)
                    yield piece
            if read != size:
                raise StageError(f"{path}: changed while it was stored; run the stage again")
            if size % _BLOCK:
                yield bytes(-size % _BLOCK)
        yield bytes(2 * _BLOCK)

    def _header(self, path: Path, size: int) -> bytes:
        member = tarfile.TarInfo(path.relative_to(self._folder).as_posix())
        member.size = size
        return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def extract(stream: BinaryIO, target: Path, *, most_bytes: int) -> str:
    """Write a tar's files below a folder, and return their tree digest.

    Parameters
    ----------
    stream : binary file
        Read once, from the beginning to the end.
    target : Path
        Is made. Nothing is ever written outside of it.
    most_bytes : int
        Size of all files together; a tar that holds more is not written any further.

    Returns
    -------
    str
        What :func:`tasks.contract.tree_sha256` says of the folder, without reading it again.

    Raises
    ------
    Altered
        It is no tar of plain files with plain names, each there once, or larger than expected.
    """
    target.mkdir(parents=True, exist_ok=True)
    digests: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as tar:
            for member in tar:
                # the archive remembers every member otherwise, of which there may be 100,000
                tar.members = []  # type: ignore[attr-defined]
                most_bytes -= member.size
                if most_bytes < 0:
                    raise Altered("holds more than was committed")
                digests[member.name] = _write(tar, member, target)
    except tarfile.TarError as error:
        raise Altered(f"is no tar: {error}") from error
    names = sorted(digests, key=lambda name: name.split("/"))
    return sha256_text("".join(f"{name} {digests[name]}\n" for name in names))


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> str:
    parts = member.name.split("/")
    plain = (
        member.isreg()
        and not member.issparse()
        and member.size >= 0
        and not any(part in ("", ".", "..") or "\0" in part for part in parts)
    )
    source = tar.extractfile(member) if plain else None
    if source is None:
        raise Altered(f"holds {member.name[:100]!r}, which is no plain file inside the folder")
    path = target.joinpath(*parts)
    digest = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        copy = path.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise Altered(f"holds {member.name[:100]!r} twice, or a file below it") from error
    with copy:
        while piece := source.read(_PIECE):
            digest.update(piece)
            copy.write(piece)
    return digest.hexdigest()
