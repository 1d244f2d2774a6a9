"""What is read back is what was committed, or one line says that it is not."""

import hashlib
from pathlib import Path

from tasks.contract import Altered


def altered(place: str | Path, problem: str, *, stage: str) -> Altered:
    """Return the error for something that is not what a stage committed.

    Parameters
    ----------
    place : str or Path
        Which file or object.
    problem : str
        What it is instead.
    stage : str
        Who committed it, and can make it again.
    """
    error = Altered(
        f"{place}: is not what {stage} committed: {problem}; run {stage} again with --force"
    )
    error.stage = stage
    return error


def compare(
    digest: str, expected: str, place: str | Path, *, stage: str, record: str = "the manifest"
) -> None:
    """Raise unless a digest is the expected one.

    Parameters
    ----------
    digest, expected : str
        Of what is there, and of what was committed.
    place : str or Path
        Which file or object.
    stage : str
        Who committed it.
    record : str
        Where the expected digest is written.

    Raises
    ------
    Altered
        They differ.
    """
    if digest != expected:
        problem = f"sha256 is {digest[:12]}, {record} says {str(expected)[:12]}"
        raise altered(place, problem, stage=stage)


def read_verified(path: Path, expected: str, *, stage: str, record: str = "the manifest") -> bytes:
    """Return the content of a file: the very bytes that were hashed.

    Parameters
    ----------
    path : Path
        The file.
    expected, stage, record : str
        As for :func:`compare`.

    Raises
    ------
    Altered
        It is not what was committed, or is not there any more.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error, stage=stage) from error
    compare(hashlib.sha256(content).hexdigest(), expected, path, stage=stage, record=record)
    return content


def unreadable(path: str | Path, error: OSError, *, stage: str) -> Altered:
    """Return the error for something committed that cannot be read."""
    return altered(path, f"it cannot be read ({error.strerror or error})", stage=stage)
