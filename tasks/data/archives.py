"""Unpacks archives that nobody vouches for."""

import bz2
import errno
import gzip
import logging
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from tasks.contract import BadInput

log = logging.getLogger("tasks")

MAX_ENTRIES = 5_000_000
MAX_RATIO = 100
"""Unpacked bytes a packed byte may become, beyond :data:`FREE_BYTES`."""
FREE_BYTES = 1 << 30

MAX_DEPTH = 100
"""Folders that an entry may lie below; making folders within folders recurses."""

LONGEST_HEADER = 1 << 20
"""Bytes of an extended tar header (a long name, say); the standard library reads it as a whole."""

WARNINGS = 5
"""Entries left out that are named; the others are counted."""

_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # an encrypted zip
    NotImplementedError,
    gzip.BadGzipFile,
)


def is_archive(path: Path) -> bool:
    """Tell whether a file is a zip or a tar, packed or not, by its content."""
    if zipfile.is_zipfile(path):
        return True
    try:
        with _unpacked(path) as stream:
            tarfile.TarInfo.frombuf(stream.read(512), "utf-8", "surrogateescape")
    except (*_BROKEN, OSError):
        return False
    return True


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a zip or tar archive.

    Regular files and folders are unpacked; links and devices are left out, so that nothing that is
    written later can follow one. An unpacked archive is complete or absent.

    Parameters
    ----------
    archive : Path
        The archive.
    target : Path
        Folder to be made; what is there is replaced.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    BadInput
        An entry would leave the target or stands there twice, the archive is damaged or encrypted,
        or it unpacks to far more than its size warrants.
    """
    draft = target.with_name(f"{target.name}.part")
    for folder in (draft, target):
        shutil.rmtree(folder, ignore_errors=True)
    draft.mkdir(parents=True)
    budget = _Budget(archive)
    try:
        read = _zip if zipfile.is_zipfile(archive) else _tar
        for name, stream in read(archive, budget):
            _write(archive, draft, name, stream, budget)
    except _BROKEN as error:
        raise BadInput(f"{archive.name}: cannot be unpacked: {_first_line(error)}") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BadInput(
            f"{archive.name}: holds {error.filename} both as file and as folder"
        ) from None
    draft.rename(target)
    if budget.left_out > WARNINGS:
        log.warning("%s: %d entries are left out in all", archive.name, budget.left_out)
    log.info("unpacked %s: %d files, %d bytes", archive.name, budget.files, budget.written)
    return target


class _Budget:
    """Bounds what an archive may unpack to, by what is really written, not by what it says."""

    def __init__(self, archive: Path) -> None:
        self.name = archive.name
        self.limit = FREE_BYTES + MAX_RATIO * archive.stat().st_size
        self.written = 0
        self.files = 0
        self.left_out = 0

    def count_file(self) -> None:
        self.files += 1
        self._check_entries()

    def leave_out(self, name: str, what: str) -> None:
        self.left_out += 1
        self._check_entries()
        if self.left_out <= WARNINGS:
            log.warning("%s: %r is %s and is left out", self.name, name[:200], what)

    def _check_entries(self) -> None:
        if self.files + self.left_out > MAX_ENTRIES:
            raise BadInput(f"{self.name}: holds more than {MAX_ENTRIES} files")

    def count_bytes(self, number: int) -> None:
        self.written += number
        if self.written > self.limit:
            raise BadInput(
                f"{self.name}: unpacks to more than {self.limit} bytes, {MAX_RATIO} times its "
                "size; unpack it yourself and give the folder if that is meant"
            )


class _Counted:
    """A stream that ends the unpacking when too much has come out of it, written or skipped."""

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        self._stream, self._budget, self._read = stream, budget, 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._read += len(data)
        # the blocks of the tar itself are not meant by the limit on files
        if self._read > 2 * self._budget.limit:
            self._budget.count_bytes(self._read)
        return data


class _Entry(tarfile.TarInfo):
    """Refuses headers that the standard library would read into memory whatever their size."""

    def _proc_member(self, opened: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{self.name[:80]!r} is a sparse file, which is not supported")
        extended = self.type in (
            *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
            *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
        )
        if extended and self.size > LONGEST_HEADER:
            raise tarfile.ReadError(f"an extended header has {self.size} bytes")
        return cast(tarfile.TarInfo, super()._proc_member(opened))  # type: ignore[misc]


def _unpacked(archive: Path) -> IO[bytes]:
    with archive.open("rb") as stream:
        magic = stream.read(6)
    for start, opener in _OPENERS.items():
        if magic.startswith(start):
            return cast(IO[bytes], opener(archive, "rb"))
    return archive.open("rb")


def _zip(archive: Path, budget: _Budget) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(archive) as opened:
        # some tools of Windows write its separator, against the format's own rule
        foreign = not any("/" in entry.filename for entry in opened.infolist())
        for entry in opened.infolist():
            name = entry.filename.replace("\\", "/") if foreign else entry.filename
            # the upper half of external_attr is the Unix mode; 0o120000 marks a symbolic link
            if (entry.external_attr >> 16) & 0o170000 == 0o120000:
                budget.leave_out(name, "a link")
            elif name.endswith("/"):
                yield name, None
            else:
                with opened.open(entry) as stream:
                    yield name, stream


def _tar(archive: Path, budget: _Budget) -> Iterator[tuple[str, IO[bytes] | None]]:
    # a stream, so that a compressed archive is read once and its index is not held in memory
    with _unpacked(archive) as stream:
        counted = _Counted(stream, budget)
        yield from _entries(counted, budget)
        # on to the end: only there does a packed file tell its checksum
        while counted.read(1 << 20):
            pass


def _entries(counted: _Counted, budget: _Budget) -> Iterator[tuple[str, IO[bytes] | None]]:
    with tarfile.open(fileobj=cast(IO[bytes], counted), mode="r|", tarinfo=_Entry) as opened:
        for entry in opened:
            opened.members = []  # type: ignore[attr-defined]
            if entry.isdir():
                yield entry.name, None
            elif entry.issparse():
                raise tarfile.ReadError(f"{entry.name[:80]!r} is a sparse file")
            elif entry.isfile():
                yield entry.name, opened.extractfile(entry)
            else:
                budget.leave_out(entry.name, "no regular file")


def _write(archive: Path, root: Path, name: str, stream: IO[bytes] | None, budget: _Budget) -> None:
    budget.count_file()
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise BadInput(f"{archive.name}: entry {name!r} would leave the folder it is unpacked into")
    if len(path.parts) > MAX_DEPTH:
        raise BadInput(
            f"{archive.name}: entry {name[:80]!r}... lies deeper than {MAX_DEPTH} folders"
        )
    target = root.joinpath(*path.parts)
    try:
        if stream is None:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file():
            # the later one would win without a word, and it may bring other labels
            raise BadInput(
                f"{archive.name}: holds {name!r} twice, as an archive does that was added to in "
                "place; which one is meant cannot be told: pack it anew"
            )
        with target.open("wb") as out:
            while chunk := stream.read(1 << 20):
                budget.count_bytes(len(chunk))
                out.write(chunk)
    except OSError as error:
        if isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError):
            raise
        if error.errno == errno.ENAMETOOLONG:
            raise BadInput(f"{archive.name}: entry name {name[:80]!r}... is too long") from None
        raise


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
