"""Committed outputs as local paths, wherever they are kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.contract import Manifest, open_filesystem, sha256_text
from tasks.contract.filesystem import is_local
from tasks.storage.download import fetch_output
from tasks.storage.workspace import Workspace


class InputCache:
    """Fetches an output when it is first asked for, once in a process.

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
            The store does not hold it any more.
        Altered
            It is not what was committed. What lies on this machine is not examined: whoever must
            rely on it compares digests.
        """
        output = manifest.output(name)
        fs, folder = open_filesystem(manifest.location, self._options)
        if is_local(fs):
            return Path(folder) / output.path
        key = (manifest.digest, f"{manifest.location}/{output.path}")
        if key not in self._here:
            place = sha256_text(f"{manifest.digest} {manifest.location}")[:16]
            target = self._workspace.folder / "inputs" / place / output.path.rstrip("/")
            fetch_output(fs, folder.rstrip("/"), output, target, stage=manifest.stage)
            self._here[key] = target
        return self._here[key]

    def keep(self, manifest: Manifest, folder: Path) -> None:
        """Remember where this process has the outputs that it has just committed."""
        for output in manifest.outputs:
            key = (manifest.digest, f"{manifest.location}/{output.path}")
            self._here[key] = folder / output.path
