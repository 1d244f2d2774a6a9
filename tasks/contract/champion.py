"""Who serves: several records of one fact, and what follows when they disagree.

Both sides ask here: ``bless`` and the local ``deploy`` in a stage, the deployment to a cluster in
the Airflow worker. A champion is a pair of version and digest. The digest decides: equal files
under another number are the same model, and a version without a digest is equal to nothing.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from tasks.contract.errors import BadConfig, BadInput
from tasks.contract.verdict import ModelIdentity, Verdict

log = logging.getLogger("tasks")

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


class Disagreement(BadInput):
    """The records do not say, or not alike, who the champion is."""


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


@dataclass(frozen=True, kw_only=True)
class ChampionRecords:
    """All that is recorded about the champion of a model.

    Attributes
    ----------
    model : str
        Registered model.
    registry : Champion or None
        The version with the alias ``champion``; None when there is none.
    served : Champion or None
        What serves: by the pointer on one machine, by the annotation on a cluster.
    once : Champion or None
        The last champion by the tag of the registered model, whatever became of it.
    logged : Champion or None
        The last champion by ``champions.jsonl`` beside what serves.
    guessed : Champion or None
        The last champion of a registry that was filled before there was the tag: it counts only
        where nothing else is known.
    never : bool
        Whether the tag says that nobody is or was champion.
    has_registry : bool
        Whether there is a registry at all.
    """

    model: str
    registry: Champion | None = None
    served: Champion | None = None
    once: Champion | None = None
    logged: Champion | None = None
    guessed: Champion | None = None
    never: bool = False
    has_registry: bool = True

    @property
    def last(self) -> Champion | None:
        """The last version known to have been champion."""
        return self.once or self.logged or self.guessed


def champion_records(
    model: str,
    *,
    served: Champion | None,
    logged: Champion | None = None,
    registry: Champion | None = None,
    history: History | None = None,
) -> ChampionRecords:
    """Return all records of a champion; both sides build them here.

    Parameters
    ----------
    model : str
        Registered model.
    served : Champion or None
        What serves.
    logged : Champion or None
        The last champion by the record below the serving root.
    registry : Champion or None
        The version with the alias ``champion``.
    history : History or None
        What the registry remembers; None when there is no registry.
    """
    if history is None:
        return ChampionRecords(model=model, served=served, logged=logged, has_registry=False)
    return ChampionRecords(
        model=model,
        registry=registry,
        served=served,
        once=history.once,
        logged=logged,
        guessed=history.guessed,
        never=history.never,
    )


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


def agreed_champion(records: ChampionRecords) -> Champion | None:
    """Return the champion on whom all records agree; None when none of them knows one.

    A registry that knows a champion while nothing serves is no contradiction: the model may have
    been taken out of service, and a comparison with the registry's files keeps the gate closed.

    Raises
    ------
    Disagreement
        The records contradict each other, or name a version without a digest.
    """
    champion = _in_office(records)
    if champion is None:
        return None
    for noted, where in (
        (records.once, f"the registered model's tag '{LAST_CHAMPION}' says"),
        (records.logged, "champions.jsonl beside what serves says"),
    ):
        # an alias or a pointer alone, which anybody can move, makes no champion
        if noted is not None and not champion.is_same_model(noted):
            raise _disagreement(
                records.model,
                f"{champion} is champion by alias or pointer, but {where} that {noted} was "
                "champion last",
            )
    if records.never and records.registry is not None:
        raise _disagreement(
            records.model,
            f"{champion} has the alias 'champion', but the registered model's tag "
            f"'{LAST_CHAMPION}' says that no version was ever champion",
        )
    return champion


def _in_office(records: ChampionRecords) -> Champion | None:
    """Return on whom alias and pointer agree."""
    model, registry, served = records.model, records.registry, records.served
    if served is not None and not served.digest:
        raise _disagreement(model, f"{served} serves, so nobody can say which model that is")
    if registry is not None and not registry.digest:
        raise _disagreement(
            model,
            f"the registry's champion is version {registry.version}, which has no tag 'digest': it "
            "was registered or made champion by hand",
        )
    known = served or registry
    if known is None:
        if records.last is not None:
            raise _disagreement(
                model,
                f"{records.last} was champion once, but no version has the alias 'champion' now "
                "and nothing serves",
            )
        return None
    if served is None or not records.has_registry:
        return known
    if registry is None:
        raise _disagreement(
            model, f"{served} serves, but no version in the registry has the alias 'champion'"
        )
    if not registry.is_same_model(served):
        raise _disagreement(model, f"the registry's champion is {registry}, but {served} serves")
    return registry


def check_champion(verdict: Verdict, records: ChampionRecords) -> None:
    """Refuse a verdict that compared with another champion: an approval may take its time.

    Parameters
    ----------
    verdict : Verdict
        The run's.
    records : ChampionRecords
        As they are now.

    Raises
    ------
    BadInput
        Another version became champion since, or the records disagree.
    """
    own = Champion(verdict.model.version or "", verdict.model.digest)
    if own.is_same_model(records.guessed):
        # the newest blessed version is the one that is to be deployed: that is no other champion
        records = replace(records, guessed=None)
    if own.is_same_model(records.registry):
        # deployed already, or a person moved the alias to go back to this version
        return
    if own.is_same_model(records.served):
        # an earlier attempt was killed between the switch and the alias
        if not records.has_registry:
            return
        records = _not_noted(replace(records, served=None), own)
    elif records.registry is not None or records.served is not None:
        # an earlier attempt noted it, and failed to move the alias
        records = _not_noted(records, own)
    judged = _champion(verdict.champion)
    alias = records.registry
    if alias is not None and alias.digest and not alias.is_same_model(judged):
        # said before anything else: what serves may not have followed yet
        raise _stale(verdict, f"{_number(alias)} became champion after the verdict was given")
    now = agreed_champion(records)
    if now is None and judged is not None:
        raise _stale(verdict, f"{judged}, with which it was compared, is the champion no more")
    if now is not None and not now.is_same_model(judged):
        raise _stale(verdict, f"{_number(now)} became champion after the verdict was given")


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


def _not_noted(records: ChampionRecords, own: Champion) -> ChampionRecords:
    return replace(
        records,
        once=None if own.is_same_model(records.once) else records.once,
        logged=None if own.is_same_model(records.logged) else records.logged,
    )


def _champion(identity: ModelIdentity | None) -> Champion | None:
    return None if identity is None else Champion(identity.version or "", identity.digest)


def _number(champion: Champion) -> str:
    return f"version {champion.version}"


def _stale(verdict: Verdict, why: str) -> BadInput:
    return BadInput(f"{verdict.model.name}: {why}: run evaluate and bless again")


def _disagreement(model: str, what: str) -> Disagreement:
    return Disagreement(
        f"{model}: who serves is not certain: {what}; look at the records with 'python -m tasks "
        f"champion --model {model}' and put the wrong one right with --set"
    )
