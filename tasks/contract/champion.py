"""A version that serves, or should, and how it is written where one is named.

What several records of it say together is in :mod:`tasks.contract.champion_records`.
"""

import re
from typing import NamedTuple

from tasks.contract.errors import BadConfig

CHAMPION = "champion"
"""Alias of the version that serves."""

NOBODY = "none"
"""What is written where a version is asked for and nothing serves."""

LAST_CHAMPION = "last_champion"
"""Tag of a registered model: its last champion as :func:`format_champion` writes it, ``none`` while
there was no champion yet."""

ASK_WHO_SERVES = ("evaluate", "bless")
"""Stages that must be told what serves where they cannot see it; ``deploy`` looks for itself."""


class Champion(NamedTuple):
    """A version that serves, or should.

    Attributes
    ----------
    version : str
        Its number in the registry.
    digest : str
        Digest of its SavedModel; empty when nobody recorded it.
    """

    version: str
    digest: str

    def is_same_model(self, other: "Champion | None") -> bool:
        """Return whether both have the same files, as far as digests tell."""
        return other is not None and bool(self.digest) and self.digest == other.digest

    def __str__(self) -> str:
        return f"version {self.version} ({self.digest[:12] or 'without a digest'})"


def parse_champion(text: str) -> Champion | None:
    """Read ``VERSION:DIGEST``, or ``none`` for nobody.

    Raises
    ------
    BadConfig
        It is neither.
    """
    if text == NOBODY:
        return None
    found = re.fullmatch(r"([^\s:]+):([0-9a-f]{64}|)", text)
    if found is None:
        raise BadConfig(
            f"--served {text!r}: must be VERSION:DIGEST (64 hexadecimal digits) of the version "
            f"that serves, or {NOBODY}"
        )
    return Champion(found[1], found[2])


def format_champion(champion: Champion | None) -> str:
    """Write what :func:`parse_champion` reads."""
    return NOBODY if champion is None else f"{champion.version}:{champion.digest}"
