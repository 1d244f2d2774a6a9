"""Stores what a stage left: a file as one object, a folder as one tar, large ones in parts."""

import json
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from hashlib import md5
from pathlib import Path
from typing import Any, Protocol

from tasks.contract import Output, RunDirectory, StageError, storage_errors, stored_name
from tasks.contract.filesystem import BLOCK_BYTES, is_s3, read_whole
from tasks.contract.run_directory import DIGEST_KEY
from tasks.storage.tar_stream import TarStream

log = logging.getLogger("tasks")

PARALLEL_PARTS = 4
"""Parts on their way at a time; with one being read, five of them are in memory."""

MOST_PARTS = 9_000
"""Parts of an object; S3 takes 10,000."""


class Readable(Protocol):
    """A stream that returns as many bytes as asked for, except at its end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""


def store_outputs(run: RunDirectory, stage: str, folder: Path, outputs: Sequence[Output]) -> None:
    """Store a stage's outputs in its folder of the run, before the manifest names them.

    An upload that a killed attempt left half-way goes on where the bytes are the same.

    Parameters
    ----------
    run : RunDirectory
        A remote run.
    stage : str
        Stage name.
    folder : Path
        Where the outputs are on this machine.
    outputs : sequence of Output
        As :func:`tasks.contract.describe_outputs` lists them.

    Raises
    ------
    StageError
        The store cannot be reached, or refuses.
    """
    for output in outputs:
        path = f"{run.path}/{stage}/{stored_name(output, local=False)}"
        source = folder / output.path
        with storage_errors(f"{run.stage_uri(stage)}/{output.path}"):
            if output.path.endswith("/"):
                tar = TarStream(source)
                put(run.fs, path, tar, size=tar.size, sha256=output.sha256)
            else:
                with source.open("rb") as stream:
                    put(run.fs, path, stream, size=output.bytes, sha256=output.sha256)


def put(fs: Any, path: str, stream: Readable, *, size: int, sha256: str) -> None:
    """Write a stream of known size as one object, which appears as a whole or not at all.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
        The store.
    path : str
        The object's path on it.
    stream : Readable
        The bytes.
    size : int
        How many.
    sha256 : str
        Digest of the output that they hold; kept in the object's metadata.
    """
    if not is_s3(fs):
        with fs.open(path, "wb") as target:
            while block := stream.read(BLOCK_BYTES):
                target.write(block)
    elif size <= BLOCK_BYTES:
        bucket, key, _ = fs.split_path(path)
        fs.call_s3(
            "put_object",
            Bucket=bucket,
            Key=key,
            Body=stream.read(size + 1),
            Metadata={DIGEST_KEY: sha256},
        )
    else:
        _Multipart(fs, path, size=size, sha256=sha256).put(stream)


def abandon(fs: Any, path: str) -> None:
    """End the upload of an object that will never be needed, if there is one; its parts cost money
    until then."""
    if is_s3(fs):
        _Multipart(fs, path, size=0, sha256="").end()


class _Multipart:
    """One object in parts. A small record beside it tells a later attempt which upload to go on
    with; it is removed when the object is there."""

    def __init__(self, fs: Any, path: str, *, size: int, sha256: str) -> None:
        self._fs, self._path, self._size, self._sha256 = fs, path, size, sha256
        bucket, key, _ = fs.split_path(path)
        self._object = {"Bucket": bucket, "Key": key}
        folder, _, name = path.rpartition("/")
        self._record = f"{folder}/.{name}.upload"
        self._part_bytes = max(BLOCK_BYTES, -(-size // MOST_PARTS))

    def put(self, stream: Readable) -> None:
        if self._is_there() and self._fs.exists(self._record):
            # a killed attempt of ours completed it; any other object may hold anything by now
            self._fs.rm_file(self._record)
            return
        upload, known = self._resumed() or (self._begun(), {})
        try:
            sent = self._send(stream, upload, known)
            parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(sent.items())]
            self._call(
                "complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except FileNotFoundError as error:
            # The upload is no more: the answer to a first call was lost, or another attempt has
            # ended it, by completing it or to begin with other bytes.
            if not self._is_there():
                raise StageError(
                    f"{self._path}: its upload was ended by another attempt at the same stage; "
                    "a retry may help"
                ) from error
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._record)

    def end(self) -> None:
        """Forget what an earlier attempt left of this object's upload."""
        self._resumed()
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._record)

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        return dict(self._fs.call_s3(method, **self._object, **arguments))

    def _is_there(self) -> bool:
        try:
            found = self._call("head_object")
        except FileNotFoundError:
            return False
        digest = found.get("Metadata", {}).get(DIGEST_KEY)
        return bool(digest == self._sha256 and found["ContentLength"] == self._size)

    def _begun(self) -> str:
        begun = self._call("create_multipart_upload", Metadata={DIGEST_KEY: self._sha256})
        upload = str(begun["UploadId"])
        document = {"upload": upload, "sha256": self._sha256, "part_bytes": self._part_bytes}
        self._fs.pipe_file(self._record, json.dumps(document).encode())
        return upload

    def _resumed(self) -> tuple[str, dict[int, str]] | None:
        """Return the upload that a killed attempt began for these very bytes, and its parts."""
        try:
            document = json.loads(read_whole(self._fs, self._record))
            sha256, size, upload = document["sha256"], document["part_bytes"], document["upload"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        try:
            if (sha256, size) == (self._sha256, self._part_bytes):
                return upload, self._parts(upload)
            self._call("abort_multipart_upload", UploadId=upload)
        except FileNotFoundError:
            # completed or ended by another attempt
            pass
        return None

    def _parts(self, upload: str) -> dict[int, str]:
        parts: dict[int, str] = {}
        marker: dict[str, int] = {}
        while True:
            page = self._call("list_parts", UploadId=upload, **marker)
            parts |= {part["PartNumber"]: part["ETag"] for part in page.get("Parts", [])}
            if not page.get("IsTruncated"):
                return parts
            marker = {"PartNumberMarker": page["NextPartNumberMarker"]}

    def _send(self, stream: Readable, upload: str, known: dict[int, str]) -> dict[int, str]:
        sent: dict[int, str] = {}
        underway: deque[tuple[int, Future[str]]] = deque()
        spoken, kept, number, length = time.monotonic(), 0, 0, 0

        def part(number: int, block: bytes) -> str:
            answer = self._call("upload_part", UploadId=upload, PartNumber=number, Body=block)
            return str(answer["ETag"])

        with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
            while block := stream.read(self._part_bytes):
                number, length = number + 1, length + len(block)
                etag = md5(block, usedforsecurity=False).hexdigest()
                if known.get(number, "").strip('"') == etag:
                    sent[number], kept = known[number], kept + 1
                    continue
                underway.append((number, pool.submit(part, number, block)))
                if len(underway) > PARALLEL_PARTS:
                    done, future = underway.popleft()
                    sent[done] = future.result()
                if time.monotonic() - spoken > 5:
                    spoken = time.monotonic()
                    share = 100 * number * self._part_bytes / self._size
                    log.info("storing %s: %.0f %%", self._path, min(share, 100))
            sent |= {number: future.result() for number, future in underway}
        if known:
            log.info("storing %s: %d of %d parts were there already", self._path, kept, len(sent))
        if length != self._size:
            raise StageError(f"{self._path}: its size changed while it was stored; run it again")
        return sent
