"""One run's folder: the only way in which stages hand results to each other."""

import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from pydantic import BaseModel

from tasks.contract.errors import NoInput
from tasks.contract.filesystem import (
    is_local,
    is_s3,
    open_filesystem,
    read_whole,
    storage_errors,
)
from tasks.contract.hashing import sha256_file, sha256_text, tree_sha256
from tasks.contract.records import Failure, Manifest, Output
from tasks.contract.verdict import Verdict

log = logging.getLogger("tasks")

M = TypeVar("M", bound=BaseModel)

DIGEST_KEY = "sha256"
"""Metadata of an object: the digest of the output that it holds."""

_STAMP = r"[A-Za-z_]+__\d{4}-\d\d-\d\dT\d\d{0}\d\d{0}\d\d(?:\.\d+)?{1}\d\d{0}\d\d[A-Za-z0-9_.~-]*"
_DATED = re.compile(_STAMP.replace("{0}", ":").replace("{1}", r"\+"), re.ASCII)
_FLATTENED = re.compile(_STAMP.replace("{0}", "_").replace("{1}", "_"), re.ASCII)


class RunDirectory:
    """One run's folder, ``<root>/<pipeline>/runs/<run_id>``, under any fsspec URI.

    On this machine outputs are plain files and folders. Anywhere else a file is one object and a
    folder is one tar, named as :func:`stored_name` says.

    Parameters
    ----------
    uri : str
        Path or fsspec URI.
    storage_options : mapping, optional
        Arguments of the file system, such as endpoint and session; for everything that is read or
        written through this object, other runs' results included.
    """

    def __init__(self, uri: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.storage_options = storage_options
        self.fs, path = open_filesystem(uri, storage_options)
        self.path: str = path.rstrip("/")
        self.is_local = is_local(self.fs)
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
        """Return a stage's manifest, None when it was not committed, is unreadable or is not as it
        was committed. It may be of an older format, which is no evidence of a result."""
        manifest, problem = self.examine_manifest(stage)
        if problem:
            log.warning("%s", problem)
        return manifest

    def examine_manifest(self, stage: str) -> tuple[Manifest | None, str]:
        """Return a stage's manifest, or None and what is wrong with one that is there."""
        path = f"{self.path}/{stage}/manifest.json"
        manifest = self._read(path, Manifest)
        if manifest is None or manifest.is_intact:
            return manifest, ""
        return None, f"{self._uri(path)}: is not as it was committed: its digest is another"

    def read_failure(self, stage: str) -> Failure | None:
        """Return why the stage's last attempt failed, None when it has not."""
        return self._read(f"{self.path}/{stage}/failure.json", Failure)

    def read_verdict(self, manifest: Manifest | None = None) -> Verdict | None:
        """Return the committed verdict; None when ``bless`` did not commit one, or its file is not
        the one that was committed.

        Parameters
        ----------
        manifest : Manifest, optional
            Of ``bless``, where it has been read; it is read when left out.
        """
        manifest = manifest or self.examine_manifest("bless")[0]
        path = f"{self.path}/bless/verdict.json"
        try:
            raw = self._bytes(path)
            expected = manifest.output("verdict.json").sha256 if manifest else ""
            if hashlib.sha256(raw).hexdigest() != expected:
                return None
            return Verdict.model_validate_json(raw)
        except (FileNotFoundError, KeyError, ValueError):
            return None

    def read_verdict_in_force(self, manifest: Manifest | None = None) -> Verdict | None:
        """Return what :meth:`read_verdict` does, None also when the manifest is of a format that is
        no evidence: it may be shown, but nothing follows from it."""
        manifest = manifest or self.examine_manifest("bless")[0]
        evident = manifest is not None and manifest.is_evidence
        return self.read_verdict(manifest) if evident else None

    def write_manifest(self, manifest: Manifest) -> None:
        """Commit a stage: its last write. Removes the record of earlier failed attempts."""
        folder = f"{self.path}/{manifest.stage}"
        self._write(f"{folder}/manifest.json", manifest.model_dump_json(indent=1))
        self.forgive(manifest.stage)

    def forgive(self, stage: str) -> None:
        """Remove the record of a failed attempt: a later one has succeeded."""
        self._remove(f"{self.path}/{stage}/failure.json")

    def write_failure(self, failure: Failure) -> None:
        """Record why an attempt failed."""
        self._write(f"{self.path}/{failure.stage}/failure.json", failure.model_dump_json(indent=1))

    def retract(self, stage: str) -> None:
        """Undo a stage's commit, so that nobody reads it while it is computed again."""
        self._remove(f"{self.path}/{stage}/manifest.json")

    def cached(self, fingerprint: str) -> Manifest | None:
        """Return what an earlier run of this pipeline computed for this very fingerprint, if its
        outputs still stand; what the cache alone says of a result counts for nothing."""
        entry = self._read_json(f"{self.pipeline_path}/cache/{fingerprint}.json")
        names = ("run_uri", "stage", "digest")
        if not isinstance(entry, dict) or not all(isinstance(entry.get(n), str) for n in names):
            return None
        uri, stage, digest = (entry[name] for name in names)
        runs, _, run_id = uri.rpartition("/")
        if runs != self.uri.rpartition("/")[0] or "/" in stage or {run_id, stage} & {"", ".", ".."}:
            return None
        manifest = RunDirectory(uri, self.storage_options).read_manifest(stage)
        if (
            manifest is None
            or not manifest.is_evidence
            or fingerprint not in manifest.made_for
            or (manifest.stage, manifest.digest) != (stage, digest)
        ):
            return None
        return manifest if self.stands(manifest) else None

    def stands(self, manifest: Manifest) -> bool:
        """Tell whether a manifest's outputs are still what was committed: files on this machine by
        their content, objects by the digest that they were stored under."""
        fs, folder = self.open(manifest.location)
        try:
            with storage_errors(manifest.location):
                return all(
                    _stands(fs, f"{folder}/{stored_name(output, local=is_local(fs))}", output)
                    for output in manifest.outputs
                )
        except (OSError, NoInput):
            return False

    def open(self, location: str) -> tuple[fsspec.AbstractFileSystem, str]:
        """Return the file system and path of a folder that a manifest names, perhaps of another
        run."""
        fs, folder = open_filesystem(location, self.storage_options)
        return fs, folder.rstrip("/")

    def remember(self, fingerprint: str, manifest: Manifest) -> None:
        """Let later runs find the result under its fingerprint."""
        entry = {"run_uri": self.uri, "stage": manifest.stage, "digest": manifest.digest}
        self._write(f"{self.pipeline_path}/cache/{fingerprint}.json", json.dumps(entry))

    def forget(self, fingerprint: str) -> None:
        """Let later runs find no result under a fingerprint."""
        self._remove(f"{self.pipeline_path}/cache/{fingerprint}.json")

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
            return json.loads(self._bytes(path))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except (ValueError, RecursionError):
            return None

    def _bytes(self, path: str) -> bytes:
        with storage_errors(self._uri(path)):
            try:
                return read_whole(self.fs, path)
            except FileNotFoundError as error:
                # a missing document is an answer, not an error of the store
                missing = error
        raise missing

    def _write(self, path: str, text: str) -> None:
        """Write at once or not at all: rename is atomic on disk, a put is on object stores."""
        if not self.is_local:
            with storage_errors(self._uri(path)):
                self.fs.pipe_file(path, text.encode())
            return
        write_atomically(Path(path), text)

    def _remove(self, path: str) -> None:
        with storage_errors(self._uri(path)), suppress(FileNotFoundError):
            self.fs.rm_file(path)

    def _uri(self, path: str) -> str:
        return str(self.fs.unstrip_protocol(path))


def stored_name(output: Output, *, local: bool) -> str:
    """Return the name under which an output is kept in its stage's folder.

    Parameters
    ----------
    output : Output
        As the manifest lists it.
    local : bool
        Whether the folder is on this machine; elsewhere a folder of files is one tar, because
        stores take by the object, in money and in time.
    """
    if not output.path.endswith("/"):
        return output.path
    return output.path if local else f"{output.path.rstrip('/')}.tar"


def _stands(fs: fsspec.AbstractFileSystem, path: str, output: Output) -> bool:
    if is_s3(fs):
        bucket, key, _ = fs.split_path(path)
        found = fs.call_s3("head_object", Bucket=bucket, Key=key)
        digest = found.get("Metadata", {}).get(DIGEST_KEY)
        size = None if output.path.endswith("/") else output.bytes
        return digest == output.sha256 and size in (None, found["ContentLength"])
    if is_local(fs):
        # a file's size and date are no evidence, and hashing costs less than computing
        digest = tree_sha256 if output.path.endswith("/") else sha256_file
        return digest(Path(path)) == output.sha256
    if output.path.endswith("/"):
        return bool(fs.exists(path))
    return bool(fs.size(path) == output.bytes)


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
