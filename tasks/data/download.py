"""Fetches files over http(s), going on where a broken transfer stopped."""

import ipaddress
import logging
import netrc
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit, urlunsplit

from tasks.contract import BadConfig, NoInput, StageError
from tasks.contract.run_directory import write_atomically
from tasks.environment import allowed_addresses
from tasks.spec.addresses import is_below

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("tasks")

T = TypeVar("T")

ATTEMPTS = 5
FIRST_WAIT_SECONDS = 1.0
CONNECT_SECONDS, READ_SECONDS = 20.0, 60.0


def download(uri: str, target: Path) -> None:
    """Fetch a file, resuming a part that an earlier attempt left, or not at all if it is there.

    Parameters
    ----------
    uri : str
        http(s) address.
    target : Path
        Complete or absent; the part is ``target`` with ``.part`` appended.

    Raises
    ------
    NoInput
        The server says that there is no such file, or that it may not be had.
    StageError
        The server could not be reached or failed, several times; worth a retry.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, mark = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.etag")
    state = target.with_name(f"{target.name}.state")
    if target.exists() and state.exists() and state.read_text() == remote_state(uri):
        return
    target.unlink(missing_ok=True)
    version = remote_state(uri)
    _retried(uri, lambda: _transfer(uri, part, mark))
    write_atomically(state, version)
    part.replace(target)
    mark.unlink(missing_ok=True)


def remote_state(uri: str) -> str:
    """Return what the server says about a file's version: entity tag, date and length.

    A server that gives neither tag nor date cannot tell whether the file has changed: the state is
    then never the same twice.
    """

    def ask() -> str:
        with _client() as client:
            answer = client.head(uri)
            if answer.status_code in (403, 405, 501):
                with client.stream("GET", uri) as answer:
                    _check(answer)
                    return _version(answer)
            _check(answer)
            return _version(answer)

    return _retried(uri, ask)


def _version(answer: "httpx.Response") -> str:
    headers = answer.headers
    known = [headers.get("etag", ""), headers.get("last-modified", "")]
    if not any(known):
        known.append(str(time.time_ns()))
    return "|".join([*known, headers.get("content-length", "")])


def _transfer(uri: str, part: Path, mark: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    tag = mark.read_text() if have and mark.exists() else ""
    headers = {"Accept-Encoding": "identity"}
    if tag:
        # If-Range: the rest of the same file, or the whole of a changed one
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    with _client() as client, client.stream("GET", uri, headers=headers) as answer:
        if answer.status_code == 416:
            part.unlink(missing_ok=True)
            raise _Transient("the part on disk does not fit the file")
        _check(answer)
        resumed = answer.status_code == 206
        if not resumed:
            version = answer.headers.get("etag") or answer.headers.get("last-modified") or ""
            write_atomically(mark, "" if version.startswith("W/") else version)
        total = int(answer.headers.get("content-length") or 0) + (have if resumed else 0)
        with part.open("ab" if resumed else "wb") as stream:
            done, said = have if resumed else 0, time.monotonic()
            for chunk in answer.iter_raw():
                stream.write(chunk)
                done += len(chunk)
                if time.monotonic() - said > 5:
                    said = time.monotonic()
                    log.info("fetching %s: %d of %s bytes", shown(uri), done, total or "?")
        if total and done != total:
            raise _Transient(f"got {done} of {total} bytes")


class _Transient(Exception):
    """Something that another attempt may mend."""


def _check(answer: "httpx.Response") -> None:
    status = answer.status_code
    if status == 429 or status >= 500:
        raise _Transient(f"the server answered {status}")
    if status >= 400:
        address = shown(str(answer.url))
        raise NoInput(f"{address}: the server answered {status} {answer.reason_phrase}")


def _client() -> "httpx.Client":
    import httpx

    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        account = httpx.NetRCAuth(os.environ.get("NETRC"))
    except OSError:
        account = None
    except netrc.NetrcParseError as error:
        raise BadConfig(f"{error.filename}: line {error.lineno}: {error.msg}") from None
    return httpx.Client(
        timeout=timeout,
        follow_redirects=True,
        max_redirects=5,
        auth=account,
        event_hooks={"response": [_check_redirect]},
    )


def _check_redirect(answer: "httpx.Response") -> None:
    """Refuse to be sent from https to http, where anybody may change what is trained on, and from
    the address that was given into this machine or its network."""
    if not answer.has_redirect_location:
        return
    following = answer.url.join(answer.headers["location"])
    place = f"{shown(str(answer.url))}: sends on to {shown(str(following))}"
    if answer.url.scheme == "https" and following.scheme != "https":
        raise NoInput(f"{place}, no https")
    allowed = allowed_addresses() or ()
    if following.host == answer.url.host or is_below(str(following), allowed):
        return
    if _is_inside(following.host):
        raise NoInput(
            f"{place}, which is no public address: give that address itself, or allow it in "
            "[trusted_retraining] allowed_addresses"
        )


def _is_inside(host: str) -> bool:
    """Return whether a host has an address that is not public; one without any cannot be asked."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return any(not ipaddress.ip_address(each.partition("%")[0]).is_global for each in found)


def shown(uri: str) -> str:
    """Return an address for a log line: without account and query, which may hold a secret."""
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _retried(uri: str, action: Callable[[], T]) -> T:
    import httpx

    for attempt in range(ATTEMPTS):
        try:
            return action()
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise NoInput(f"{shown(uri)}: is no address: {error}") from None
        except (httpx.HTTPError, _Transient) as error:
            reason = str(error) or type(error).__name__
            if attempt + 1 == ATTEMPTS:
                break
            wait = FIRST_WAIT_SECONDS * 2**attempt
            log.warning("%s: %s; trying again in %.1f s", shown(uri), reason, wait)
            time.sleep(wait)
    raise StageError(
        f"{shown(uri)}: cannot be fetched: {reason}; in a closed network set source.uri to a path"
    )
