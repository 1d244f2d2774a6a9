"""Opens local and remote storage: with patience where a store throttles, and errors in one line."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from tasks.contract.errors import BadConfig, BadInput, NoInput, StageError

CONNECT_SECONDS, READ_SECONDS = 10, 60
"""How long a store may take to accept a connection, and to go on with an answer."""

ATTEMPTS = 8
"""Times that botocore asks, waiting up to 20 s in between: a throttled prefix takes minutes to be
split. Connections that break in the middle of a body are s3fs's to repeat."""

BLOCK_BYTES = 16 * 2**20
"""Bytes of a part of a large object, and of a request when one is read."""

_PASSING = ("ExpiredToken", "RequestTimeTooSkewed", "TokenRefreshRequired")
"""Refusals that the next attempt, with fresh credentials, need not meet."""

S3_PROTOCOLS = ("s3", "s3a")


def open_filesystem(
    uri: str, storage_options: Mapping[str, Any] | None = None
) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a URI, and the path on it.

    Parameters
    ----------
    uri : str
        Path or fsspec URI.
    storage_options : mapping, optional
        Arguments of the file system, such as endpoint and session. Without them an object store is
        found as its own libraries do: ``AWS_*`` variables, web identity, instance role.

    Raises
    ------
    BadConfig
        The URI's protocol is not known, or what speaks it is not installed.
    """
    options = {} if local_uri(uri) else dict(storage_options or {})
    if uri.split("://", 1)[0] in S3_PROTOCOLS:
        options = s3_options(options)
    try:
        fs, path = url_to_fs(uri, **options)
    except (ValueError, ImportError) as error:
        raise BadConfig(f"{uri}: cannot be opened: {error}; use a path or an s3:// URI") from error
    return fs, str(path)


def s3_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return s3fs arguments with our patience; what is given, or set by variable, goes before."""
    config: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "retries": _retries(),
    }
    config |= given.get("config_kwargs") or {}
    return {
        # another process writes what this one reads: a remembered listing would be a lie
        "use_listings_cache": False,
        "default_block_size": BLOCK_BYTES,
        **given,
        "config_kwargs": config,
    }


def local_uri(uri: str) -> bool:
    """Tell whether a URI is a path on this machine."""
    return "://" not in uri or uri.startswith(("file://", "local://"))


def protocols(fs: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    """Return the protocols that a file system speaks."""
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def read_whole(fs: fsspec.AbstractFileSystem, path: str) -> bytes:
    """Return the content of a small file."""
    # s3fs would ask for the size first, to read a large object in ranges side by side
    return bytes(fs.cat_file(path, **({"max_concurrency": 1} if is_s3(fs) else {})))


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    """Tell whether a file system is this machine's."""
    return "file" in protocols(fs)


def is_s3(fs: fsspec.AbstractFileSystem) -> bool:
    """Tell whether a file system is an S3 object store."""
    return "s3" in protocols(fs)


@contextmanager
def storage_errors(uri: str) -> Iterator[None]:
    """Turn what goes wrong with a remote store into a :class:`StageError` of one line.

    Parameters
    ----------
    uri : str
        What was read or written. A local one lets every error pass as it is.
    """
    try:
        yield
    except StageError:
        raise
    except Exception as error:
        if local_uri(uri):
            raise
        raise _told(uri, error) from error


def is_taken(error: OSError) -> bool:
    """Return whether a write that was to replace nothing failed because there is something."""
    # s3fs raises FileExistsError for the answers that name the condition; not every store does
    return isinstance(error, FileExistsError) or _error_code(error) == "PreconditionFailed"


def _error_code(error: Exception) -> str:
    """Return the code that the store gave, which s3fs keeps in the error that it turned into
    another."""
    answer = getattr(error.__cause__, "response", None)
    return str(answer.get("Error", {}).get("Code")) if isinstance(answer, dict) else ""


def _retries() -> dict[str, Any]:
    mode, attempts = os.environ.get("AWS_RETRY_MODE"), os.environ.get("AWS_MAX_ATTEMPTS")
    # adaptive: after a SlowDown the client holds itself back instead of knocking on
    return {
        "mode": mode or "adaptive",
        "total_max_attempts": int(attempts) if attempts and attempts.isdigit() else ATTEMPTS,
    }


def _told(uri: str, error: Exception) -> StageError:
    reason = " ".join((str(error) or type(error).__name__).split())[:300]
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StageError(
            f"{uri}: no space is left on this machine's disk; raise resources.ephemeral_storage, "
            "or give TRUSTED_RETRAINING_SCRATCH a larger one"
        )
    local = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    if local and getattr(error, "filename", None) is not None:
        return StageError(f"{uri}: not the store, but this machine's disk failed: {reason}")
    if _error_code(error) in _PASSING:
        return StageError(f"{uri}: the store refuses for now: {reason}; a retry may help")
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return BadConfig(
            f"{uri}: no credentials for the store; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give the pod a role"
        )
    if isinstance(error, PermissionError):
        return BadConfig(
            f"{uri}: the store refuses: {reason}; check credentials and that they may list, read, "
            "write and delete there"
        )
    if isinstance(error, FileNotFoundError):
        return NoInput(f"{uri}: is not there: {reason}")
    if kind in ("ParamValidationError", "InvalidRegionError"):
        return BadInput(f"{uri}: is no address of a store: {reason}")
    return StageError(f"{uri}: the store failed: {kind}: {reason}; a retry may help")
