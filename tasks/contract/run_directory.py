"""One run's folder: the only way in which stages hand results to each other."""

import hashlib
import json
import os
import re
import uuid
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.core import url_to_fs
from pydantic import BaseModel

from tasks.contract.hashing import sha256_text
from tasks.contract.records import Failure, Manifest, Verdict

M = TypeVar("M", bound=BaseModel)

_STAMP = r"[A-Za-z_]+__\d{4}-\d\d-\d\dT\d\d{0}\d\d{0}\d\d(?:\.\d+)?{1}\d\d{0}\d\d[A-Za-z0-9_.~-]*"
_DATED = re.compile(_STAMP.replace("{0}", ":").replace("{1}", r"\+"), re.ASCII)
_FLATTENED = re.compile(_STAMP.replace("{0}", "_").replace("{1}", "_"), re.ASCII)


class RunDirectory:
    """One run's folder, ``<root>/<pipeline>/runs/<run_id>``, under any fsspec URI."""

    def __init__(self, uri: str) -> None:
        self.fs, path = url_to_fs(uri)
        self.path: str = path.rstrip("/")
        self.is_local = "file" in _protocols(self.fs)
        if self.is_local:
            self.path = str(Path(self.path).resolve())
        self.uri: str = self.fs.unstrip_protocol(self.path)

    @property
    def run_id(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def pipeline_path(self) -> str:
        """Path of ``<root>/<pipeline>``."""
        return self.path.rsplit("/", 2)[0]

    def stage_uri(self, stage: str) -> str:
        """Return the URI of a stage's folder."""
        return f"{self.uri}/{stage}"

    def read_manifest(self, stage: str) -> Manifest | None:
        """Return a stage's manifest, None when it was not committed or is unreadable."""
        return self._read(f"{self.path}/{stage}/manifest.json", Manifest)

    def read_failure(self, stage: str) -> Failure | None:
        """Return why the stage's last attempt failed, None when it has not."""
        return self._read(f"{self.path}/{stage}/failure.json", Failure)

    def read_verdict(self) -> Verdict | None:
        """Return the committed verdict; None when ``bless`` did not commit one, or its file is not
        the one that was committed."""
        manifest = self.read_manifest("bless")
        path = f"{self.path}/bless/verdict.json"
        try:
            raw = self.fs.cat_file(path)
            expected = manifest.output("verdict.json").sha256 if manifest else ""
            if hashlib.sha256(raw).hexdigest() != expected:
                return None
            return Verdict.model_validate_json(raw)
        except (FileNotFoundError, KeyError, ValueError):
            return None

    def write_manifest(self, manifest: Manifest) -> None:
        """Commit a stage: its last write. Removes the record of earlier failed attempts."""
        folder = f"{self.path}/{manifest.stage}"
        self._write(f"{folder}/manifest.json", manifest.model_dump_json(indent=1))
        self.forgive(manifest.stage)

    def forgive(self, stage: str) -> None:
        """Remove the record of a failed attempt: a later one has succeeded."""
        path = f"{self.path}/{stage}/failure.json"
        if self.fs.exists(path):
            self.fs.rm(path)

    def write_failure(self, failure: Failure) -> None:
        """Record why an attempt failed."""
        self._write(f"{self.path}/{failure.stage}/failure.json", failure.model_dump_json(indent=1))

    def retract(self, stage: str) -> None:
        """Undo a stage's commit, so that nobody reads it while it is computed again."""
        path = f"{self.path}/{stage}/manifest.json"
        if self.fs.exists(path):
            self.fs.rm(path)

    def cached(self, fingerprint: str) -> Manifest | None:
        """Return what an earlier run committed for a fingerprint, if its outputs still stand."""
        entry = self._read_json(f"{self.pipeline_path}/cache/{fingerprint}.json")
        if not isinstance(entry, dict) or not {"run_uri", "stage"} <= entry.keys():
            return None
        manifest = RunDirectory(entry["run_uri"]).read_manifest(entry["stage"])
        if manifest is None or manifest.digest != entry.get("digest"):
            return None
        return manifest if self.stands(manifest) else None

    def stands(self, manifest: Manifest) -> bool:
        """Tell whether a manifest's outputs are still there, the files in their full size."""
        fs, folder = url_to_fs(manifest.location)
        try:
            return all(
                fs.exists(f"{folder}/{output.path}")
                if output.path.endswith("/")
                else fs.size(f"{folder}/{output.path}") == output.bytes
                for output in manifest.outputs
            )
        except FileNotFoundError:
            return False

    def remember(self, fingerprint: str, manifest: Manifest) -> None:
        """Let later runs find the result under its fingerprint."""
        entry = {"run_uri": self.uri, "stage": manifest.stage, "digest": manifest.digest}
        self._write(f"{self.pipeline_path}/cache/{fingerprint}.json", json.dumps(entry))

    def read_json(self, name: str) -> Any:
        """Return a JSON document of the run, such as ``pipeline.json``; None when absent."""
        return self._read_json(f"{self.path}/{name}")

    def write_json(self, name: str, document: Any) -> None:
        """Write a JSON document into the run."""
        self._write(f"{self.path}/{name}", json.dumps(document, indent=1, default=str))

    def _read(self, path: str, model: type[M]) -> M | None:
        document = self._read_json(path)
        try:
            return None if document is None else model.model_validate(document)
        except ValueError:
            return None

    def _read_json(self, path: str) -> Any:
        try:
            return json.loads(self.fs.cat_file(path))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except (ValueError, RecursionError):
            return None

    def _write(self, path: str, text: str) -> None:
        """Write at once or not at all: rename is atomic on disk, a put is on object stores."""
        if not self.is_local:
            self.fs.pipe_file(path, text.encode())
            return
        write_atomically(Path(path), text)


def write_atomically(path: Path, text: str) -> None:
    """Write a local file so that a reader sees the old text or the new one, even after a kill."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def run_uri(root: str, pipeline: str, run_id: str) -> str:
    """Return the URI of a run; the run id is made safe for paths and object keys.

    Parameters
    ----------
    root : str
        fsspec URI or path of the storage root.
    pipeline : str
        Pipeline name.
    run_id : str
        Airflow's run id, such as ``manual__2026-01-31T02:00:00+00:00``. Only ids of that form, and
        those that need no change, keep their name alone; any other gets a digest behind it, so
        that two runs never share a folder.
    """
    safe = re.sub(r"[^A-Za-z0-9_.~-]", "_", run_id)
    unchanged = safe == run_id and safe.strip(".") and not _FLATTENED.fullmatch(safe)
    if len(safe) > 200 or not (unchanged or _DATED.fullmatch(run_id)):
        safe = f"{safe[:200].lstrip('.')}-{sha256_text(run_id)[:12]}"
    return f"{root.rstrip('/')}/{pipeline}/runs/{safe}"


def _protocols(fs: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
