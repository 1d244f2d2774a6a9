"""Who serves, case by case: what the records say, and what follows for the gate."""

from typing import Any

import pytest

from tasks.contract import (
    BadConfig,
    BadInput,
    Champion,
    ChampionRecords,
    Disagreement,
    History,
    ModelIdentity,
    RegistryEntry,
    Verdict,
    agreed_champion,
    check_champion,
    format_champion,
    parse_champion,
    return_champion,
)

ONE, TWO, BARE = Champion("1", "d1"), Champion("2", "d2"), Champion("3", "")
RENUMBERED = Champion("4", "d1")


def records(**known: Any) -> ChampionRecords:
    return ChampionRecords(model="m", **known)


@pytest.mark.parametrize(
    ("known", "champion"),
    [
        ({}, None),
        ({"registry": ONE, "served": ONE}, ONE),
        ({"registry": ONE, "served": ONE, "once": ONE, "logged": ONE}, ONE),
        ({"registry": RENUMBERED, "served": ONE, "once": ONE, "logged": ONE}, RENUMBERED),
        # filled by an earlier release: the newest blessed version is a mere guess
        ({"registry": ONE, "served": ONE, "guessed": TWO}, ONE),
        ({"has_registry": False, "served": ONE, "logged": ONE}, ONE),
        # never champion in a registry that is not the one
        ({"never": True}, None),
        # registered anew after its version was deleted: the same files
        ({"registry": RENUMBERED, "served": ONE}, RENUMBERED),
        # taken out of service
        ({"registry": ONE}, ONE),
        ({"has_registry": False}, None),
        ({"has_registry": False, "served": ONE}, ONE),
    ],
)
def test_the_champion_is_the_one_on_whom_all_records_agree(
    known: dict[str, Any], champion: Champion | None
) -> None:
    assert agreed_champion(records(**known)) == champion


@pytest.mark.parametrize(
    ("known", "said"),
    [
        # alias or version deleted, model renamed, another or an empty database
        ({"served": ONE}, r"version 1 \(d1\) serves, but no version in the registry has the alias"),
        ({"served": ONE, "once": ONE}, "no version in the registry has the alias"),
        ({"once": ONE}, "was champion once, but no version has the alias 'champion' now"),
        ({"once": BARE}, r"version 3 \(without a digest\) was champion once"),
        ({"has_registry": False, "once": ONE}, "was champion once"),
        ({"has_registry": False, "logged": ONE}, "was champion once"),
        ({"guessed": ONE}, "was champion once"),
        ({"never": True, "logged": ONE}, "was champion once"),
        # the alias moved, and the pointer removed or edited
        (
            {"registry": TWO, "once": ONE},
            r"'last_champion' says that version 1 \(d1\) was champion",
        ),
        (
            {"registry": TWO, "logged": ONE},
            r"champions.jsonl beside what serves says that version 1",
        ),
        ({"registry": TWO, "once": TWO, "logged": ONE}, "champions.jsonl beside what serves says"),
        ({"registry": TWO, "once": ONE, "logged": TWO}, "'last_champion' says"),
        ({"registry": TWO, "served": TWO, "once": ONE}, "'last_champion' says"),
        ({"registry": TWO, "served": TWO, "logged": ONE}, "champions.jsonl"),
        ({"registry": ONE, "served": ONE, "once": TWO}, "'last_champion' says that version 2"),
        ({"registry": ONE, "served": ONE, "once": BARE}, "'last_champion' says that version 3"),
        ({"registry": ONE, "never": True}, "says that no version was ever champion"),
        ({"registry": ONE, "served": ONE, "never": True}, "no version was ever champion"),
        # without MLflow only the digest in champion.json edited
        ({"has_registry": False, "served": TWO, "logged": ONE}, "champions.jsonl"),
        ({"registry": TWO, "served": ONE}, r"registry's champion is version 2 \(d2\), but version"),
        # made by hand
        ({"registry": BARE}, "version 3, which has no tag 'digest'"),
        ({"registry": BARE, "served": BARE}, "without a digest"),
        ({"registry": BARE, "served": ONE}, "no tag 'digest'"),
        ({"registry": ONE, "served": BARE}, "without a digest"),
        ({"has_registry": False, "served": BARE}, "without a digest"),
    ],
)
def test_records_that_disagree_are_a_refusal_with_the_way_out(
    known: dict[str, Any], said: str
) -> None:
    with pytest.raises(Disagreement, match=said) as refused:
        agreed_champion(records(**known))
    assert "python -m tasks champion --model m" in str(refused.value)
    assert refused.value.exit_code == 65


def verdict(compared: Champion | None) -> Verdict:
    champion = None
    if compared is not None:
        champion = ModelIdentity(name="m", version=compared.version, digest=compared.digest)
    return Verdict(
        blessed=True, model=ModelIdentity(name="m", version="9", digest="d9"), champion=champion
    )


OWN = Champion("9", "d9")


@pytest.mark.parametrize(
    ("compared", "known"),
    [
        (None, {}),
        (None, {"has_registry": False}),
        (ONE, {"registry": ONE, "served": ONE}),
        (ONE, {"registry": ONE}),
        (ONE, {"registry": RENUMBERED, "served": ONE}),
        (ONE, {"has_registry": False, "served": ONE}),
        # deployed already
        (ONE, {"registry": OWN, "served": OWN}),
        # a person moved the alias to go back to this version
        (ONE, {"registry": OWN, "served": TWO}),
        (None, {"registry": OWN, "served": BARE}),
        # killed between the switch and the alias
        (ONE, {"registry": ONE, "served": OWN}),
        (None, {"served": OWN}),
        # the newest blessed version of a registry without a memory is the one to be deployed
        (None, {"guessed": OWN}),
        (None, {"served": OWN, "once": OWN}),
        (ONE, {"registry": ONE, "served": OWN, "once": OWN, "logged": ONE}),
        (ONE, {"registry": ONE, "served": OWN, "once": ONE, "logged": ONE}),
        # noted, and the alias could not be moved: what served before serves again
        (ONE, {"registry": ONE, "served": ONE, "once": OWN, "logged": ONE}),
        (ONE, {"has_registry": False, "served": OWN, "logged": ONE}),
        (ONE, {"has_registry": False, "served": OWN}),
    ],
)
def test_a_verdict_holds_while_the_champion_is_the_one_it_compared_with(
    compared: Champion | None, known: dict[str, Any]
) -> None:
    check_champion(verdict(compared), records(**known))


AFTER = "became champion after the verdict"


@pytest.mark.parametrize(
    ("compared", "known", "said"),
    [
        (None, {"registry": ONE, "served": ONE}, f"version 1 {AFTER}"),
        (None, {"registry": ONE}, AFTER),
        (ONE, {"registry": TWO, "served": TWO}, f"version 2 {AFTER}"),
        (None, {"has_registry": False, "served": ONE}, AFTER),
        (BARE, {"registry": ONE, "served": ONE}, AFTER),
        # without a digest nothing is the same model, whatever its number
        (None, {"registry": BARE}, "no tag 'digest'"),
        (BARE, {"registry": BARE}, "no tag 'digest'"),
        (ONE, {"registry": BARE, "served": ONE}, "no tag 'digest'"),
        # a record was lost meanwhile
        (ONE, {"served": ONE}, "no version in the registry has the alias"),
        (ONE, {}, r"version 1 \(d1\), with which it was compared, is the champion no more"),
        (ONE, {"has_registry": False}, "is the champion no more"),
        (ONE, {"registry": TWO, "served": ONE}, f"version 2 {AFTER}"),
        (ONE, {"registry": ONE, "served": TWO}, "but version 2"),
        (ONE, {"registry": ONE, "served": ONE, "once": TWO}, "'last_champion' says"),
        (TWO, {"has_registry": False, "served": TWO, "logged": ONE}, "champions.jsonl"),
        # killed between the switch and the alias, and then somebody moved or removed the alias
        (ONE, {"registry": TWO, "served": OWN}, f"version 2 {AFTER}"),
        (ONE, {"served": OWN}, "is the champion no more"),
        (None, {"registry": BARE, "served": OWN}, "no tag 'digest'"),
    ],
)
def test_a_verdict_is_stale_once_the_champion_is_another(
    compared: Champion | None, known: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        check_champion(verdict(compared), records(**known))


def test_a_model_without_a_digest_is_nobody() -> None:
    unknown = verdict(None).model_copy(update={"model": ModelIdentity(name="m")})
    with pytest.raises(BadInput, match="no tag 'digest'"):
        check_champion(unknown, records(registry=BARE))


@pytest.mark.parametrize("champion", [None, Champion("7", "a" * 64), Champion("7", "")])
def test_what_serves_travels_as_an_argument(champion: Champion | None) -> None:
    assert parse_champion(format_champion(champion)) == champion


@pytest.mark.parametrize("text", ["", "7", "7:abc", f"7:{'A' * 64}", f"7 {'a' * 64}", ":", "None"])
def test_an_argument_that_names_no_version_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="VERSION:DIGEST"):
        parse_champion(text)


A = "a" * 64


@pytest.mark.parametrize(
    ("last", "history"),
    [
        ("none", History(never=True)),
        (f"7:{A}", History(once=Champion("7", A))),
        # whatever cannot be read equals nothing, and is forgotten by nobody
        ("7:abc", History(once=Champion("7:abc", ""))),
        ("seven", History(once=Champion("seven", ""))),
        (None, History(guessed=Champion("10", "d"))),
        ("", History(guessed=Champion("10", "d"))),
    ],
)
def test_the_history_is_the_tag_or_a_guess_where_there_is_none(
    last: str | None, history: History
) -> None:
    blessed = [Champion("9", "c"), Champion("10", "d"), Champion("2", "b")]
    assert History.of(last, alias="3", blessed=lambda: blessed) == history


def test_an_alias_whose_version_is_gone_is_remembered() -> None:
    assert History.of(None, alias="3", blessed=list) == History(guessed=Champion("3", ""))
    assert History.of(None, alias=None, blessed=list) == History()


class Kept:
    """A registry in memory."""

    def __init__(self, alias: str | None, last: str | None) -> None:
        self.now = RegistryEntry(alias, last)

    def entry(self, model: str) -> RegistryEntry:
        return self.now

    def champion(self, model: str) -> Champion | None:
        return None if self.now.alias is None else Champion(self.now.alias, A)

    def point_alias(self, model: str, version: str | None) -> None:
        self.now = self.now._replace(alias=version)

    def write_last(self, model: str, text: str | None) -> None:
        self.now = self.now._replace(last=text)


@pytest.mark.parametrize("last", [None, "none", f"1:{A}"])
@pytest.mark.parametrize("alias", [None, "1"])
@pytest.mark.parametrize("moved", [True, False])
def test_the_way_back_restores_what_the_registry_said(
    alias: str | None, last: str | None, moved: bool
) -> None:
    kept = Kept("9" if moved else alias, "9:d9")
    return_champion(kept, "m", OWN, RegistryEntry(alias, last))
    assert kept.now == (alias, last)


def test_the_way_back_leaves_what_somebody_moved_meanwhile() -> None:
    kept = Kept("5", f"5:{A}")
    return_champion(kept, "m", OWN, RegistryEntry("1", f"1:{A}"))
    assert kept.now == ("5", f"5:{A}")


def test_what_a_killed_attempt_noted_goes_back_to_the_alias() -> None:
    kept = Kept("9", "9:d9")
    return_champion(kept, "m", OWN, RegistryEntry("1", "9:d9"))
    assert kept.now == ("1", f"1:{A}")


def test_a_version_that_was_champion_already_stays_champion() -> None:
    kept = Kept("9", "9:d9")
    return_champion(kept, "m", OWN, RegistryEntry("9", "9:d9"))
    assert kept.now == ("9", "9:d9")
