"""What a registered model says of its champions, read alike through MLflow's client and its REST
API, and the way back for a version that was not deployed after all."""

import logging
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from tasks.contract.champion import (
    CHAMPION,
    NOBODY,
    Champion,
    format_champion,
    parse_champion,
)
from tasks.contract.errors import BadConfig

log = logging.getLogger("tasks")


class History(NamedTuple):
    """What a registry remembers of a model's champions, although alias and version may be gone.

    Attributes
    ----------
    once : Champion or None
        The last champion by the tag ``last_champion``.
    guessed : Champion or None
        In a registry that was filled before there was the tag: the newest version with ``verdict:
        blessed``, or an alias whose version is gone.
    never : bool
        Whether the tag says that nobody is or was champion.
    """

    once: Champion | None = None
    guessed: Champion | None = None
    never: bool = False

    @classmethod
    def of(
        cls, last: str | None, *, alias: str | None, blessed: Callable[[], Sequence[Champion]]
    ) -> "History":
        """Return what the fields of a registered model say.

        Parameters
        ----------
        last : str or None
            Text of its tag ``last_champion``.
        alias : str or None
            Version that its alias ``champion`` names, which may be deleted.
        blessed : callable
            Returns its versions with ``verdict: blessed``; called only where there is no tag.
        """
        if last == NOBODY:
            return cls(never=True)
        if last:
            try:
                return cls(once=parse_champion(last))
            except BadConfig:
                # without a digest it equals nothing, so whoever compares with it is refused
                return cls(once=Champion(last, ""))
        newest = max(blessed(), key=lambda each: int(each.version), default=None)
        if newest is None and alias:
            newest = Champion(alias, "")
        return cls(guessed=newest)


class RegistryEntry(NamedTuple):
    """What a registered model says of its champion, as it was written.

    Attributes
    ----------
    alias : str or None
        Version that the alias ``champion`` names.
    last : str or None
        Text of the tag ``last_champion``.
    """

    alias: str | None
    last: str | None


class ChampionRegistry(Protocol):
    """A registry as the way back needs it."""

    def entry(self, model: str) -> RegistryEntry:
        """Return what a registered model says of its champion; nothing for an unknown model."""

    def champion(self, model: str) -> Champion | None:
        """Return the version with the alias ``champion``."""

    def point_alias(self, model: str, version: str | None) -> None:
        """Point the alias ``champion`` at a version; None removes it."""

    def write_last(self, model: str, text: str | None) -> None:
        """Write the tag ``last_champion``; None removes it."""


def return_champion(
    registry: ChampionRegistry, model: str, ours: Champion, before: RegistryEntry
) -> None:
    """Put alias and tag back where they name a version that was not deployed after all.

    What a person moved elsewhere meanwhile stays.

    Parameters
    ----------
    registry : ChampionRegistry
        Where they are.
    model : str
        Registered model.
    ours : Champion
        The version that was not deployed.
    before : RegistryEntry
        What the registry said before.

    Raises
    ------
    StageError
        The registry cannot be reached.
    """
    now = registry.entry(model)
    if now.alias == ours.version != before.alias:
        registry.point_alias(model, before.alias)
        log.warning("the alias %s is back at %s", CHAMPION, before.alias or "no version")
    # after the alias: a champion that nobody noted would be worse
    if not _names(now.last, ours):
        return
    last = before.last
    if _names(last, ours) and before.alias not in (None, ours.version):
        # a killed attempt noted it before this one began
        champion = registry.champion(model)
        last = last if champion is None else format_champion(champion)
    if last != now.last:
        registry.write_last(model, last)


def _names(last: str | None, champion: Champion) -> bool:
    """Return whether the text of a tag names a version, of whatever digest: an earlier release's
    may have been noted with the digest of its files."""
    return (last or "").partition(":")[0] == champion.version


def says_absent(code: object, text: str) -> bool:
    """Return whether MLflow's error says that there is no such model, version or alias.

    Parameters
    ----------
    code : str
        Its error code.
    text : str
        Its text: a model without the alias has the code of every wrong value.
    """
    return code == "RESOURCE_DOES_NOT_EXIST" or (
        code == "INVALID_PARAMETER_VALUE" and re.search(r"alias \S+ not found", text) is not None
    )
