"""Committed outputs as local paths, wherever they are kept, and never unhashed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.contract import (
    Manifest,
    Output,
    open_filesystem,
    sha256_file,
    sha256_text,
    tree_sha256,
)
from tasks.contract.filesystem import is_local
from tasks.storage.download import fetch_output
from tasks.storage.verified import compare, read_verified, unreadable
from tasks.storage.workspace import Workspace


class InputCache:
    """Fetches an output when it is first asked for, and hashes it, once in a process.

    Parameters
    ----------
    workspace : Workspace, optional
        Where fetched outputs are kept; one of its own when left out.
    storage_options : mapping, optional
        Arguments of the file system, as for :func:`tasks.contract.open_filesystem`.
    """

    def __init__(
        self,
        workspace: Workspace | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._workspace = workspace or Workspace()
        self._options = storage_options
        self._here: dict[tuple[str, str], Path] = {}

    def path(self, manifest: Manifest, name: str) -> Path:
        """Return the local path of an output; a folder's name ends with ``/``.

        Outputs of one stage lie side by side.

        Raises
        ------
        KeyError
            The manifest does not name it.
        NoInput
            A remote run does not hold it any more.
        Altered
            It is not what was committed, or a local run does not hold it any more.
        """
        output = manifest.output(name)
        key = _key(manifest, output)
        if key not in self._here:
            path = self._located(manifest, output)
            if path is None:
                path = self._fetched(manifest, output)
            else:
                _verify(path, manifest, output)
            self._here[key] = path
        return self._here[key]

    def unverified_path(self, manifest: Manifest, name: str) -> Path:
        """Return the path of an output whose reader compares what it reads, file by file, with
        digests of its own: a folder of many images need not be hashed for the sake of a few.

        Raises
        ------
        KeyError, NoInput, Altered
            As :meth:`path`; what lies on this machine is not examined.
        """
        path = self._located(manifest, manifest.output(name))
        return self.path(manifest, name) if path is None else path

    def read(self, manifest: Manifest, name: str) -> bytes:
        """Return the content of a file: the very bytes that were hashed.

        Raises
        ------
        KeyError, NoInput, Altered
            As :meth:`path`.
        """
        output = manifest.output(name)
        path = self._located(manifest, output) or self.path(manifest, name)
        return read_verified(path, output.sha256, stage=manifest.stage)

    @property
    def folder(self) -> Path:
        """Folder for what else is fetched; it ends with the process."""
        return self._workspace.folder

    def keep(self, manifest: Manifest, folder: Path) -> None:
        """Remember where this process has the outputs that it has just committed."""
        for output in manifest.outputs:
            self._here[_key(manifest, output)] = folder / output.path

    def _located(self, manifest: Manifest, output: Output) -> Path | None:
        """Return where an output lies on this machine; None when it is kept elsewhere."""
        fs, folder = open_filesystem(manifest.location, self._options)
        return Path(folder) / output.path if is_local(fs) else None

    def _fetched(self, manifest: Manifest, output: Output) -> Path:
        fs, folder = open_filesystem(manifest.location, self._options)
        place = sha256_text(f"{manifest.digest} {manifest.location}")[:16]
        target = self._workspace.folder / "inputs" / place / output.path.rstrip("/")
        fetch_output(fs, folder.rstrip("/"), output, target, stage=manifest.stage)
        return target


def _key(manifest: Manifest, output: Output) -> tuple[str, str]:
    return output.sha256, f"{manifest.location}/{output.path}"


def _verify(path: Path, manifest: Manifest, output: Output) -> None:
    try:
        if not output.path.endswith("/"):
            digest = sha256_file(path)
        elif path.is_dir():
            digest = tree_sha256(path)
        else:
            raise FileNotFoundError("there is no such folder")
    except OSError as error:
        raise unreadable(path, error, stage=manifest.stage) from error
    compare(digest, output.sha256, path, stage=manifest.stage)
