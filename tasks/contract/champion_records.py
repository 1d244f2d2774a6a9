"""Who serves: several records of one fact, and what follows when they disagree.

Both sides ask here: ``bless`` and the local ``deploy`` in a stage, the deployment to a cluster in
the Airflow worker. A champion is a pair of version and digest. The digest decides: equal files
under another number are the same model, and a version without a digest is equal to nothing.
"""

from dataclasses import dataclass, replace

from tasks.contract.champion import LAST_CHAMPION, Champion
from tasks.contract.champion_registry import History
from tasks.contract.errors import BadInput
from tasks.contract.verdict import ModelIdentity, Verdict


class Disagreement(BadInput):
    """The records do not say, or not alike, who the champion is."""


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
