"""Keeps the credentials that this process was given out of what it says.

Libraries put addresses, headers and arguments into their messages. A pod knows the very values of
its secrets, so they are looked for as they are; a failure's reason goes on into verdict, report and
tags.
"""

import logging
import os
import re
from urllib.parse import quote

MASK = "***"

SHORTEST = 6
"""Characters of a value that is looked for: a shorter one would be found in innocent words."""

_NAMES = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSWD|ACCESS_KEY|API_KEY|PRIVATE_KEY)", re.I)
_PLACES = re.compile(r"(_FILE|_PATH|_URL|_URI|_NAME)$", re.I)
_IN_ADDRESS = re.compile(r"://[^/\s:@]*:([^\s@]+)@")


def without_credentials(text: str) -> str:
    """Return a text with the credentials masked that are in this process's environment.

    Parameters
    ----------
    text : str
        A message.
    """
    for value in _values():
        text = text.replace(value, MASK)
    return text


class MaskingFormatter(logging.Formatter):
    """Formats log lines, tracebacks included, without credentials."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return without_credentials(super().format(record))


def _values() -> list[str]:
    found: set[str] = set()
    for name, value in os.environ.items():
        if _NAMES.search(name) and not _PLACES.search(name):
            found |= {value, value.strip(), quote(value, safe="")}
        found |= set(_IN_ADDRESS.findall(value))
    # a value may hold another
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)
