"""Keeps credentials out of whatever is stored, logged or shown.

The one list of what they look like. Libraries put addresses, headers and arguments into their
messages, and old runs hold addresses that would be refused today. Both sides mask with
:func:`masked`; an address in a pipeline file or a setting that holds a credential is refused: see
:func:`secret_in`.
"""

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from tasks.spec.accounts import accounts
from tasks.spec.secret_names import is_secret_name, is_secret_variable

MASK = "***"

QUOTES = ("'", '"')

_PASSES = 5
"""Times that a text is looked through at most: a mask may end where the value did not. What people
and programs write settles in two, and what does not settle was made so that it does not."""

SHORTEST = 6
"""Characters of a variable's value that is looked for: a shorter one is found in innocent words."""

_FORMS = (
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b|\bgh[opsur]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}"
    r"|\bglpat-[\w-]{16,}|\bhf_[A-Za-z0-9]{16,}|\bxox[abeprs][.-][\w.-]{10,}|\bglsa_\w{16,}"
    r"|\bsk-(?:proj|ant)-[\w-]{16,}|\bAIza[\w-]{30,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-Ag[\w-]{16,}"
    r"|(?<![\w-])eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*"
)
"""Keys and tokens that are known by their form: AWS, GitHub, GitLab, Hugging Face, Slack, Grafana,
OpenAI, Anthropic, Google, npm, PyPI, JSON Web Tokens."""

# A text of any kind is searched in time that grows with its length alone: what is repeated cannot
# begin inside of itself, and is not given back (the + after a quantifier).
_NAME = re.compile(
    r"(?:(?<![\w.-])|(?<=%[0-9a-fA-F]{2}))([\w.-]++(?:\[\w{0,30}\])?)(?:\\{0,3}['\"])?"
    r"\s{0,20}(?:[=:]|%3[adAD])\s{0,20}(\\{0,3}['\"])?"
)
_VALUE = re.compile(r"[^\s'\"&,;})]+")
_QUOTED_VALUES = {mark: re.compile(rf"(?:[^{mark}\\\n]|\\(?!\n).)++", re.S) for mark in QUOTES}
_PARAMETER = re.compile(
    r"(?i)([?&;#])((?:(?!%3d)[^?&;#=\s'\"<>])++)(=|%3d)(\"[^\"\s]*+|'[^'\s]*+|[^&;#\s'\"<>]++)"
)
_ADDRESS = re.compile(r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{0,30}:/{2,}[^\s<>]+")
_QUOTED_ADDRESS = re.compile(
    r"(?i)(?<![A-Za-z0-9+.\-])([A-Za-z][A-Za-z0-9+.\-]{0,30}+)(%(?:25)*3a(?:%(?:25)*2f){2})"
    r"([^\s'\"&;#<>]*)"
)
_QUOTED_AGAIN = re.compile(r"(?i)%(?:25)+(?=[0-9a-f]{2})")
_TOKEN = re.compile(_FORMS)
_PATTERNS = (
    (_TOKEN, MASK),
    # a header's value goes to the end of its quotes, or of its line
    (
        re.compile(
            r"(?i)\b((?:authorization|cookie)\\{0,3}['\"]?\s{0,3}[:=]\s{0,3})"
            r"(?:(\\{0,3}['\"])[^'\"\n]++|[^\s'\"][^'\"\n]*+)"
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s{1,3}[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END |\Z)", re.S), MASK),
)


def masked(text: str) -> str:
    """Return a text with what looks like credentials masked.

    Parameters
    ----------
    text : str
        A log line, an address, a message; several lines. One that went through before stays as it
        is: digests are made of masked texts, and compared when those are read again. One that does
        not settle is masked as a whole.
    """
    for _ in range(_PASSES):
        before, text = text, _masked_once(text)
        if text == before:
            return text
    return MASK


def _masked_once(text: str) -> str:
    return _masked_plain(_QUOTED_ADDRESS.sub(_masked_quoted, _replaced(text, _accounts_of(text))))


def _masked_plain(text: str) -> str:
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    text = _replaced(text, _named_values(text))
    return _PARAMETER.sub(_masked_parameter, text)


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
            masked(str(key)): _without_texts(inner)
            if is_secret_name(str(key))
            else masked_deep(inner)
            for key, inner in value.items()
        }
    return [masked_deep(inner) for inner in value] if isinstance(value, list) else value


def _without_texts(value: Any) -> Any:
    if isinstance(value, str):
        return MASK if value else value
    return (
        [_without_texts(inner) for inner in value]
        if isinstance(value, list)
        else (masked_deep(value))
    )


def without_queries(text: str) -> str:
    """Return a text masked, and every address in it without its query: for pages that go public."""

    def cut(word: re.Match[str]) -> str:
        address, mark, query = word[0].partition("?")
        return f"{address}{mark}{MASK}" if query and "://" in address else word[0]

    return re.sub(r'[^\s"]+', cut, masked(text))


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
    for account in accounts(text):
        return "a password" if account.has_password else "a user, which here is a key or a token"
    for match in _ADDRESS.finditer(text):
        address = match[0]
        # twice: a driver's own parameters may be quoted inside of one
        for tail in (address, unquote_plus(address)):
            for _, name, _sign, _value in _PARAMETER.findall(tail):
                if is_secret_name(name, in_address=True):
                    plain = unquote_plus(name)
                    short = re.match(r"(?i)pass|pwd|pw$", plain)
                    return "a password" if short else f"the parameter {plain!r}"
        if _TOKEN.search(unquote_plus(address)):
            return "an access token"
        if _QUOTED_ADDRESS.sub(_masked_quoted, address) != address:
            return "an address with a credential"
    return None


def _replaced(text: str, spans: Iterator[tuple[int, int]]) -> str:
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], MASK]
        done = end
    return "".join([*parts, text[done:]])


def _accounts_of(text: str) -> Iterator[tuple[int, int]]:
    return ((account.start, account.end) for account in accounts(text))


def _named_values(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the values of credentials by name stand: ``name=value``, ``"name": "value"``."""
    done = 0
    for name in _NAME.finditer(text):
        if name.start() < done or not is_secret_name(name[1]):
            # a value is searched for names itself: a driver's own parameters stand inside of one
            continue
        opening = name[2] or ""
        if len(opening) > 1:
            # quotes inside of quotes: the value ends where they come again
            stop = text.find(opening, name.end())
            end = stop if stop >= 0 else len(text)
        else:
            pattern = _QUOTED_VALUES.get(opening, _VALUE)
            value = pattern.match(text, name.end())
            end = value.end() if value else name.end()
        if end > name.end():
            yield name.end(), end
            done = end


def _masked_parameter(match: re.Match[str]) -> str:
    start, name, sign, value = match.groups()
    if not is_secret_name(name, in_address=True):
        return match[0]
    return f"{start}{name}{sign}{value[0] if value[0] in QUOTES else ''}{MASK}"


def _masked_quoted(match: re.Match[str]) -> str:
    """Mask an address that is quoted to be a parameter of another one, from its slashes on."""
    plain = match[1] + match[2] + match[3]
    for _ in range(3):
        # however often it was quoted, it is looked into once
        plain = unquote(_QUOTED_AGAIN.sub("%", plain))
    shown = _masked_plain(_replaced(plain, _accounts_of(plain)))
    return f"{match[1]}{match[2]}{MASK}" if shown != plain else match[0]


def _values() -> list[str]:
    found: set[str] = set()
    for name, value in os.environ.items():
        if is_secret_variable(name):
            found |= _spellings(value)
        for account in accounts(value):
            user, _, password = value[account.start : account.end].partition(":")
            found |= _spellings(password or user)
    # a value may hold another
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)


def _spellings(value: str) -> set[str]:
    return {value, value.strip(), unquote(value), quote(value, safe="")}
