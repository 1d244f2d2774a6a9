"""Keeps credentials out of whatever is stored, logged or shown.

The one list of what they look like. Libraries put addresses, headers and arguments into their
messages, and old runs hold addresses that would be refused today. Both sides mask with
:func:`masked`; an address in a pipeline file or a setting that holds a credential is refused: see
:func:`secret_in`.
"""

import os
import re
from typing import Any
from urllib.parse import quote, unquote_plus

MASK = "***"

SHORTEST = 6
"""Characters of a variable's value that is looked for: a shorter one is found in innocent words."""

_ANYWHERE = re.compile(
    r"(?:[\w.-]*[-_.])?(?:secret(?:[-_]?(?:access[-_]?)?key)?|token|api[-_]?key|private[-_]?key"
    r"|(?:account|shared|storage)[-_]?key|(?:aws[-_]?)?access[-_]?key(?:[-_]?id)?)"
    r"|aws(?:secret)?accesskey(?:id)?|x-amz-(?:signature|credential|security-token)"
    r"|[\w.-]*passw(?:or)?d|pwd|passphrase|(?:client|api|shared)secret"
    r"|(?:access|auth|id|refresh|session|security|sas|bearer|user)token|sharedaccesssignature",
    re.I,
)
"""Names whose values are credentials wherever they stand: ``name=value``, ``"name": "value"``."""

_IN_ADDRESSES = re.compile(
    # short words that mean a credential in an address only; se to sktid are Azure's signature
    r"key|sig|auth|authorization|pass|jwt|bearer|policy|key-pair-id|hmac|googleaccessid|sid"
    r"|[\w.-]*(?:token|secret|signature|credentials?|session(?:_?id)?|[-_.]key)"
    r"|x-(?:amz|goog|ms)-[\w-]+|se|sp|sv|sr|skoid|sktid",
    re.I,
)
"""Further names that mean a credential in the query or fragment of an address."""

_FORMS = (
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b|\bgh[opsur]_[A-Za-z0-9]{16,255}"
    r"|\bgithub_pat_\w{16,255}|\bglpat-[\w-]{16,255}|\bhf_[A-Za-z0-9]{16,255}"
    r"|\bxox[abprs]-[\w-]{10,255}|\beyJ[\w-]{8,4096}\.[\w-]{8,4096}\.[\w-]*"
)
"""Access keys and tokens that are known by their form: AWS, GitHub, GitLab, Hugging Face, Slack,
JSON Web Tokens."""

# everything is bounded: a text of any kind is searched in time that grows with its length alone
_NAME = re.compile(
    r"(?:(?<![\w.-])|(?<=%[0-9a-fA-F]{2}))([A-Za-z][\w.-]{1,80})"
    r"['\"]?\s{0,3}(?:[=:]|%3[adAD])\s{0,3}['\"]?"
)
_VALUE = re.compile(r"[^\s'\"&,;})]+")
_PARAMETER = re.compile(r"([?&;#])([^?&;#=\s'\"<>]{1,120})=([^&;#\s'\"<>]+)")
_ADDRESS = re.compile(r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{0,30}:/{2,}[^\s'\"<>]+")
_TOKEN = re.compile(_FORMS)
_USERINFO = (
    # a password that is not quoted may hold slashes; host:port is no account
    re.compile(r"(?<=:/)(/{1,3})[^/\s:@'\"]{0,2048}:(?!\d{1,5}(?:/|$))[^\s@'\"]{0,2048}@"),
    # a user alone: here it is a key or a token, elsewhere a name, or Azure's container
    re.compile(r"(?i)(?<![a-z])((?:https?|s3[an]?|gs|ftps?):/{2,4})[^/?#\s@'\"]{1,2048}@"),
)
_PATTERNS = (
    *((pattern, rf"\1{MASK}@") for pattern in _USERINFO),
    (_TOKEN, MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s{1,3}[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END |\Z)", re.S), MASK),
)

_PASSWORDS = re.compile(r"(?i)pass|pwd")
_VARIABLES = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSWD|ACCESS_KEY|API_KEY|PRIVATE_KEY)", re.I)
_PLACES = re.compile(r"(_FILE|_PATH|_URL|_URI|_NAME)$", re.I)
_PASSWORD_OF = re.compile(r"://[^/\s:@]*:([^\s@]+)@")


def masked(text: str) -> str:
    """Return a text with what looks like credentials masked.

    Parameters
    ----------
    text : str
        A log line, an address, a message; several lines.
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return _PARAMETER.sub(_masked_parameter, _without_named_values(text))


def without_credentials(text: str) -> str:
    """Return a text masked, and without the credentials in this process's environment.

    A pod knows the very values of its secrets, so they are looked for as they are.
    """
    for value in _values():
        text = text.replace(value, MASK)
    return masked(text)


def masked_deep(value: Any) -> Any:
    """Return JSON-able data with every text in it masked, and what has a credential's name."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {
            masked(str(key)): MASK
            if isinstance(inner, str) and inner and _ANYWHERE.fullmatch(str(key))
            else masked_deep(inner)
            for key, inner in value.items()
        }
    return [masked_deep(inner) for inner in value] if isinstance(value, list) else value


def without_queries(text: str) -> str:
    """Return a text masked, and every address in it without its query: for pages that go public."""
    return re.sub(r"(\w+://[^\s?\"]+)\?[^\s\"]+", rf"\1?{MASK}", masked(text))


def secret_in(text: str) -> str | None:
    """Return what an address in a text holds that is a credential; None when there is none.

    Parameters
    ----------
    text : str
        An address, or a text with addresses in it.

    Returns
    -------
    str or None
        ``a password``, ``the parameter 'sig'``, ``an access token``; never the value.
    """
    for match in _ADDRESS.finditer(text):
        address = match[0]
        account, user = (pattern.search(address) for pattern in _USERINFO)
        if account or user:
            return "a password" if account else "a user, which here is a key or a token"
        # twice: a driver's own parameters may be quoted inside of one
        for tail in (address, unquote_plus(address)):
            for _, name, _value in _PARAMETER.findall(tail):
                if is_secret_name(name):
                    plain = unquote_plus(name)
                    return "a password" if _PASSWORDS.match(plain) else f"the parameter {plain!r}"
        if _TOKEN.search(unquote_plus(address)):
            return "an access token"
    return None


def is_secret_name(name: str) -> bool:
    """Return whether a parameter of an address is a credential by its name, quoted or not."""
    plain = unquote_plus(name).strip()
    return bool(_ANYWHERE.fullmatch(plain) or _IN_ADDRESSES.fullmatch(plain))


def _without_named_values(text: str) -> str:
    parts, done = [], 0
    for name in _NAME.finditer(text):
        # a value is searched for names itself: a driver's own parameters stand inside of one
        value = _VALUE.match(text, name.end()) if _ANYWHERE.fullmatch(name[1]) else None
        if value is not None and name.start() >= done:
            parts += [text[done : value.start()], MASK]
            done = value.end()
    return "".join([*parts, text[done:]])


def _masked_parameter(match: re.Match[str]) -> str:
    start, name, value = match.groups()
    return f"{start}{name}={MASK if is_secret_name(name) else value}"


def _values() -> list[str]:
    found: set[str] = set()
    for name, value in os.environ.items():
        if _VARIABLES.search(name) and not _PLACES.search(name):
            found |= {value, value.strip(), quote(value, safe="")}
        found |= set(_PASSWORD_OF.findall(value))
    # a value may hold another
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)
