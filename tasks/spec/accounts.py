"""Finds the account in an address, ``scheme://user:password@host``, as it comes in a text.

An address is not quoted as it should be: a password may hold ``@``, ``/``, ``?`` and quotes. And a
text may hold any number of addresses, so each part of it is looked at once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# PHP writes \/ into JSON
_SLASHES = re.compile(r":(?:\\{0,2}/){2,4}")
_SCHEME = re.compile(r"['\"]?[A-Za-z][A-Za-z0-9+.\-]{0,30}\Z")
# a password may hold any blank but these
_NAME_END = re.compile(r"[:/@?# \t-\r]")
_HOST_END = re.compile(r"[/?# \t-\r]")
_BLANK = re.compile(r"[ \t-\r]|\Z")
_QUERY = re.compile(r"[?# \t-\r]|\Z")
_PORT = re.compile(r":\d{1,5}(?:[/?#\s,;'\"\\)\]}>]|\Z)")

_LONE_SECRETS = ("http", "https", "s3", "s3a", "s3n", "gs", "ftp", "ftps", "sftp")
"""Schemes where a user alone is a key or a token; elsewhere it is a name, or Azure's container."""

_NO_PORT_AND_PATH = (
    *("s3", "s3a", "s3n", "gs", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle"),
    *("redshift", "mongodb", "redis", "rediss", "amqp", "amqps"),
)
"""Schemes where ``u:12345/x@y`` is a password with a slash, and no path on a port."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the account of an address stands in a text: between the slashes and the last ``@``."""

    start: int
    end: int
    has_password: bool


def accounts(text: str) -> Iterator[Account]:
    """Yield the accounts of the addresses in a text that are credentials, from left to right.

    Parameters
    ----------
    text : str
        Of any kind and length; it takes time that grows with its length alone.
    """
    last = _LastAt(text)
    done = 0
    for slashes in _SLASHES.finditer(text):
        start = slashes.end()
        if start < done:
            continue
        scheme = _SCHEME.search(text, max(0, slashes.start() - 32), slashes.start())
        opening, kinds = _split(scheme[0] if scheme else "")
        closing = text.find(opening, start) if opening else -1
        ends = [last.before_query(start), last.in_word(start)]
        if closing >= 0:
            # a quoted address ends with its quotes, unless they are of a password in it
            ends.insert(0, text.rfind("@", start, closing))
        for end in ends:
            account = _account(text, start, end, kinds)
            if account is not None:
                yield account
                done = account.end
                break


class _LastAt:
    """The last ``@`` of the part of a text that a position is in; each part is searched once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = {pattern: (-1, -1) for pattern in (_QUERY, _BLANK)}

    def before_query(self, start: int) -> int:
        return self._in(_QUERY, start)

    def in_word(self, start: int) -> int:
        return self._in(_BLANK, start)

    def _in(self, pattern: re.Pattern[str], start: int) -> int:
        end, at = self._parts[pattern]
        if end < start:
            found = pattern.search(self.text, start)
            end = found.start() if found else len(self.text)
            at = self.text.rfind("@", start, end)
            self._parts[pattern] = (end, at)
        return at


def _split(scheme: str) -> tuple[str, set[str]]:
    """Return the quote before a scheme, and the scheme's parts: ``git+https`` has two."""
    opening = scheme[:1] if scheme[:1] in ("'", '"') else ""
    return opening, set(re.split(r"[^a-z0-9]+", scheme.lower()))


def _account(text: str, start: int, end: int, kinds: set[str]) -> Account | None:
    """Return the account that ends at an ``@``, if there is one."""
    if end < start or text.startswith("[", start):
        return None
    name_end = _NAME_END.search(text, start)
    if name_end is None or name_end.start() > end:
        return None
    if name_end[0] == ":":
        ported = _PORT.match(text, name_end.start()) and kinds.isdisjoint(_NO_PORT_AND_PATH)
        return None if ported else Account(start, end, True)
    if name_end[0] == "@" and not kinds.isdisjoint(_LONE_SECRETS):
        host_end = _HOST_END.search(text, start)
        stop = host_end.start() if host_end else len(text)
        return Account(start, text.rfind("@", start, min(stop, end + 1)), False)
    return None
