"""Whether an address lies below another one: by whole parts of its path, in one spelling."""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_PORTS = {"http": 80, "https": 443}
_SPELLINGS = {"s3a": "s3", "s3n": "s3"}


class _Place(NamedTuple):
    scheme: str
    host: str
    parts: tuple[str, ...]


def is_below(address: str, prefixes: Iterable[str]) -> bool:
    """Return whether an address is one of the prefixes, or lies below one.

    ``s3://bucket-2`` is not below ``s3://bucket``, and what cannot be compared (``..``, user and
    password, blanks, several protocols in a row) is below nothing.

    Parameters
    ----------
    address : str
        Path or URI.
    prefixes : iterable of str
        Paths or URIs; ``/`` allows every path of this machine.
    """
    place = _place(address)
    if place is None:
        return False
    allowed = [found for prefix in prefixes if (found := _place(prefix.strip())) is not None]
    return any(
        place[:2] == prefix[:2] and place.parts[: len(prefix.parts)] == prefix.parts
        for prefix in allowed
    )


def _place(address: str) -> _Place | None:
    """Return scheme, host and parts of the path; None for what has no single meaning."""
    if not address or not address.isprintable():
        return None
    if "://" not in address:
        # a colon in the first part would make it the protocol of some library
        return None if ":" in address.split("/")[0] else _with_parts("file", "", address)
    try:
        split = urlsplit(address)
        port = split.port
    except ValueError:
        return None
    if re.search(r"[\s\\@]", split.netloc) or re.search(r"[\s\\]|::", split.path):
        return None
    scheme = _SPELLINGS.get(split.scheme, split.scheme)
    host = (split.hostname or "").rstrip(".")
    if scheme == "file":
        host = "" if host == "localhost" else host
    if port is not None and port != _PORTS.get(scheme):
        host = f"{host}:{port}"
    path = unquote(split.path)
    if unquote(path) != path or "\\" in path:
        # quoted twice: whoever opens it may read it otherwise than we do
        return None
    return _with_parts(scheme, host, f"/{path}")


def _with_parts(scheme: str, host: str, path: str) -> _Place | None:
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        return None
    # a relative path starts from a folder of its own: it is below / alone
    return _Place(scheme, host, parts if path.startswith("/") else (".", *parts))
