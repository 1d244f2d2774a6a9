"""Unpacks archives that nobody vouches for."""

import logging
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tasks.contract import BadInput

log = logging.getLogger("tasks")

MAX_ENTRIES = 5_000_000
MAX_RATIO = 100
"""Unpacked bytes a packed byte may become, beyond :data:`FREE_BYTES`."""
FREE_BYTES = 1 << 30

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # an encrypted zip
    NotImplementedError,
)


def is_archive(path: Path) -> bool:
    """Tell whether a file is a zip or a tar, packed or not, by its content."""
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


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
        An entry would leave the target, the archive is damaged or encrypted, or it unpacks to far
        more than its size warrants.
    """
    draft = target.with_name(f"{target.name}.part")
    for folder in (draft, target):
        shutil.rmtree(folder, ignore_errors=True)
    draft.mkdir(parents=True)
    budget = _Budget(archive)
    try:
        entries = _zip(archive) if zipfile.is_zipfile(archive) else _tar(archive)
        for name, stream in entries:
            _write(archive, draft, name, stream, budget)
    except _BROKEN as error:
        raise BadInput(f"{archive.name}: cannot be unpacked: {_first_line(error)}") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BadInput(
            f"{archive.name}: holds {error.filename} both as file and as folder"
        ) from None
    draft.rename(target)
    log.info("unpacked %s: %d files, %d bytes", archive.name, budget.files, budget.written)
    return target


class _Budget:
    """Bounds what an archive may unpack to, by what is really written, not by what it says."""

    def __init__(self, archive: Path) -> None:
        self.name = archive.name
        self.limit = FREE_BYTES + MAX_RATIO * archive.stat().st_size
        self.written = 0
        self.files = 0

    def count_file(self) -> None:
        self.files += 1
        if self.files > MAX_ENTRIES:
            raise BadInput(f"{self.name}: holds more than {MAX_ENTRIES} files")

    def count_bytes(self, number: int) -> None:
        self.written += number
        if self.written > self.limit:
            raise BadInput(
                f"{self.name}: unpacks to more than {self.limit} bytes, {MAX_RATIO} times its "
                "size; unpack it yourself and give the folder if that is meant"
            )


def _zip(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            # the upper half of external_attr is the Unix mode; 0o120000 marks a symbolic link
            if (entry.external_attr >> 16) & 0o170000 == 0o120000:
                log.warning("%s: link %s is left out", archive.name, entry.filename)
            elif entry.is_dir():
                yield entry.filename, None
            else:
                with opened.open(entry) as stream:
                    yield entry.filename, stream


def _tar(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    # a stream, so that a compressed archive is read once and its index is not held in memory
    with tarfile.open(archive, "r|*") as opened:
        for entry in opened:
            opened.members = []  # type: ignore[attr-defined]
            if entry.isdir():
                yield entry.name, None
            elif entry.isfile():
                yield entry.name, opened.extractfile(entry)
            else:
                log.warning("%s: %s is no regular file and is left out", archive.name, entry.name)


def _write(archive: Path, root: Path, name: str, stream: IO[bytes] | None, budget: _Budget) -> None:
    budget.count_file()
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise BadInput(f"{archive.name}: entry {name!r} would leave the folder it is unpacked into")
    target = root.joinpath(*path.parts)
    if stream is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("wb") as out:
            while chunk := stream.read(1 << 20):
                budget.count_bytes(len(chunk))
                out.write(chunk)
    except OSError as error:
        if isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError):
            raise
        if error.errno == 36:  # ENAMETOOLONG
            raise BadInput(f"{archive.name}: entry name {name[:80]!r}... is too long") from None
        raise


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
