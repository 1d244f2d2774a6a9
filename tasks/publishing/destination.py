"""A folder, here or in an object store, whose content becomes visible at once."""

import json
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks.contract import (
    StageError,
    open_filesystem,
    sha256_file,
    storage_errors,
    write_atomically,
)
from tasks.contract.filesystem import is_local, is_s3, read_whole
from tasks.contract.run_directory import DIGEST_KEY
from tasks.storage.upload import put

MANIFEST = "manifest.json"
"""Written last: without it nothing has been published."""


class PublishedFile(BaseModel):
    """A file of a publication, as its manifest lists it.

    Attributes
    ----------
    path : str
        Below the folder.
    bytes : int
        Size.
    sha256 : str
        Digest, in hexadecimal digits.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    path: str
    bytes: int
    sha256: str


class Destination:
    """Where something is published.

    Parameters
    ----------
    uri : str
        Path or fsspec URI of the folder of this one publication.
    """

    def __init__(self, uri: str) -> None:
        self.fs, path = open_filesystem(uri)
        self.is_local = is_local(self.fs)
        self.path = str(Path(path).absolute()) if self.is_local else path.rstrip("/")
        self.uri = str(self.fs.unstrip_protocol(self.path))
        self._draft = f"{self.path}.{uuid.uuid4().hex}.draft" if self.is_local else self.path

    def published(self) -> dict[str, Any] | None:
        """Return the manifest of what is there already, if every file of it still is.

        Returns
        -------
        dict or None
            None when nothing has been published, or it is no longer whole.
        """
        with storage_errors(self.uri):
            try:
                document = json.loads(read_whole(self.fs, f"{self.path}/{MANIFEST}"))
                entries = [PublishedFile.model_validate(entry) for entry in document["files"]]
            except FileNotFoundError:
                return None
            except (ValueError, KeyError, TypeError):
                return None
            whole = all(self._stands(entry) for entry in entries)
        return dict(document) if whole else None

    def retract(self) -> None:
        """Undo a publication in a store that is not whole any more, before it is made again."""
        if not self.is_local:
            with storage_errors(self.uri), suppress(FileNotFoundError):
                self.fs.rm_file(f"{self.path}/{MANIFEST}")

    def put(self, name: str, source: Path) -> PublishedFile:
        """Put a file there, not yet to be seen.

        Parameters
        ----------
        name : str
            Path below the folder.
        source : Path
            The file; it may be removed afterwards.
        """
        entry = PublishedFile(path=name, bytes=source.stat().st_size, sha256=sha256_file(source))
        if self.is_local:
            target = Path(self._draft) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            return entry
        with storage_errors(f"{self.uri}/{name}"), source.open("rb") as stream:
            put(
                self.fs,
                f"{self.path}/{name}",
                stream,
                size=entry.bytes,
                sha256=entry.sha256,
            )
        return entry

    def replace(self, name: str, source: Path) -> str:
        """Put one file there, at once or not at all, in the place of an earlier one.

        Parameters
        ----------
        name : str
            Its name in the folder.
        source : Path
            The file, a text.

        Returns
        -------
        str
            URI of the published file.
        """
        if self.is_local:
            write_atomically(Path(self.path) / name, source.read_text(encoding="utf-8"))
        else:
            self.put(name, source)
        return f"{self.uri}/{name}"

    def commit(self, document: dict[str, Any], files: list[PublishedFile]) -> None:
        """Make what was put visible: the manifest is the last that is written.

        Parameters
        ----------
        document : dict
            The manifest without its ``files``.
        files : list of PublishedFile
            What was put.

        Raises
        ------
        StageError
            Somebody else has put something else there meanwhile.
        """
        whole = {**document, "files": [entry.model_dump() for entry in files]}
        text = json.dumps(whole, indent=1, ensure_ascii=False)
        if not self.is_local:
            with storage_errors(self.uri):
                self.fs.pipe_file(f"{self.path}/{MANIFEST}", text.encode())
            return
        draft, target = Path(self._draft), Path(self.path)
        write_atomically(draft / MANIFEST, text)
        if target.is_dir() and self.published() is None:
            # of an earlier time, and not whole any more
            shutil.rmtree(target)
        try:
            draft.rename(target)
        except OSError as error:
            # the same content gives the same folder: another night was quicker
            if self.published() is None:
                raise StageError(f"{self.uri}: cannot be put in its place: {error}") from error
            self.withdraw()

    def withdraw(self) -> None:
        """Remove what was put and not committed."""
        if self.is_local:
            shutil.rmtree(self._draft, ignore_errors=True)

    def _stands(self, entry: PublishedFile) -> bool:
        path = f"{self.path}/{entry.path}"
        try:
            if not is_s3(self.fs):
                return bool(self.fs.size(path) == entry.bytes)
            bucket, key, _ = self.fs.split_path(path)
            found = self.fs.call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        digest = found.get("Metadata", {}).get(DIGEST_KEY)
        return bool(digest == entry.sha256 and found["ContentLength"] == entry.bytes)


def point_to(folder: str, name: str, document: dict[str, Any]) -> None:
    """Write a small document that tells which of several publications is the latest.

    Parameters
    ----------
    folder : str
        Path or fsspec URI.
    name : str
        Name of the document in it.
    document : dict
        What it says.
    """
    fs, path = open_filesystem(folder)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    if is_local(fs):
        write_atomically(Path(path) / name, text)
        return
    with storage_errors(folder):
        fs.pipe_file(f"{path.rstrip('/')}/{name}", text.encode())
