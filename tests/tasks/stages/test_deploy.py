"""A deployment that fails or is killed: what serves, alias and history contradict each other never.

Everything is real but the model server that is asked.
"""

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import registry, registry_history
from tasks.contract import LAST_CHAMPION, Champion, RunDirectory, StageError, agreed_champion
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.serving import champion_log, deployment, switch
from tasks.serving.client import KnownAnswer
from tasks.stages import deploy as stage
from tasks.stages import load_stage
from tasks.stages.who_serves import records_here
from tests.tasks.stages.champions import NO_COMPARISON, Night, bless, client_of

pytestmark = pytest.mark.usefixtures("made_up_evidence")


@pytest.fixture
def blessed(
    night: Night, place: Environment, champion: Champion, monkeypatch: pytest.MonkeyPatch
) -> RunDirectory:
    """Version 1 serves, version 2 is to be deployed."""
    run = night("second", champion=champion)
    assert bless(run, place, NO_COMPARISON).model.version == "2"
    answer = KnownAnswer(image_id="a", image=b"", probabilities=(1.0, 0.0))
    monkeypatch.setattr(stage, "known_answers", lambda _: [answer])
    monkeypatch.setattr(deployment, "_ask_probe", lambda *_: 0.0)
    champion_log.note_champion(place.serving_root / "films", champion, by="deploy", reason="")
    return run


def deploy(run: RunDirectory, place: Environment) -> None:
    run_stage(load_stage("deploy"), pipeline=NO_COMPARISON, run=run, environment=place)


def recorded(place: Environment) -> dict[str, Any]:
    """All that says who serves."""
    folder = place.serving_root / "films"
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    model = client_of(place).get_registered_model("films")
    alias = model.aliases.get("champion")
    return {
        "alias": None if alias is None else str(alias),
        "last": model.tags.get(LAST_CHAMPION),
        **{name: files[name] for name in files if name != ".lock" and "trained_on" not in name},
    }


def is_champion(place: Environment, version: str) -> bool:
    champion, now = agreed_champion(records_here(place, "films")), recorded(place)
    lines = [json.loads(line) for line in now["champions.jsonl"].splitlines()]
    return (
        champion is not None
        and (champion.version, now["alias"], lines[-1]["version"]) == (version,) * 3
        and now["last"] == f"{version}:{champion.digest}"
        and [line["version"] for line in lines].count(version) == 1
        and ".switch.json" not in now
    )


def lost(*arguments: Any, moved: Any = registry.set_alias) -> None:
    moved(*arguments)
    raise StageError("timed out: the answer was lost")


def refused(environment: Environment, model: str, alias: str, version: str) -> None:
    with registry.mlflow_client(environment) as client:
        found = client.get_model_version(model, version)
        champion = Champion(version, found.tags["digest"])
        registry_history.mark_champion(client, model, champion)
    raise StageError("the alias is refused")


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


FAILURES: dict[str, tuple[Any, str, Any]] = {
    "the answer of the alias is lost": (registry, "set_alias", lost),
    "the alias is refused": (registry, "set_alias", refused),
    "the line cannot be synced": (champion_log.os, "fsync", full),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_leaves_every_record_as_it_was(
    blessed: RunDirectory, place: Environment, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    before = recorded(place)
    owner, name, replaced = FAILURES[failure]
    if owner is champion_log.os:
        monkeypatch.setattr(champion_log, "os", _FullDisk())
    else:
        monkeypatch.setattr(owner, name, replaced)
    with pytest.raises(StageError):
        deploy(blessed, place)
    assert recorded(place) == before
    monkeypatch.undo()
    assert is_champion(place, "1")


class _FullDisk:
    """``os`` as the record of champions finds it."""

    SEEK_END = 2
    fsync = staticmethod(full)


def test_a_record_of_champions_that_cannot_be_written_stops_the_deployment(
    blessed: RunDirectory, place: Environment
) -> None:
    path = place.serving_root / "films/champions.jsonl"
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    before = recorded(place)
    with pytest.raises(StageError, match=r"champions\.jsonl: cannot be written: Is a directory"):
        # whoever reads it is stopped before
        _with_unread_history(blessed, place)
    assert recorded(place) == before


def _with_unread_history(run: RunDirectory, place: Environment) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.stages.who_serves.noted_champion", lambda _: None)
        deploy(run, place)


def test_the_first_champion_that_fails_leaves_no_champion(
    night: Night, place: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = night("first")
    assert bless(run, place, NO_COMPARISON).blessed
    answer = KnownAnswer(image_id="a", image=b"", probabilities=(1.0, 0.0))
    monkeypatch.setattr(stage, "known_answers", lambda _: [answer])
    monkeypatch.setattr(deployment, "_ask_probe", lambda *_: 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "set_alias", lost)
        with pytest.raises(StageError, match="the answer was lost"):
            deploy(run, place)
    assert recorded(place) == {"alias": None, "last": "none"}
    deploy(run, place)
    assert is_champion(place, "1")


def test_a_way_back_that_fails_is_told_and_taken_by_the_next_attempt(
    blessed: RunDirectory, place: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recorded(place)

    def away(*_: Any) -> None:
        raise StageError("MLflow is away")

    with monkeypatch.context() as patch:
        patch.setattr(registry, "set_alias", lost)
        patch.setattr(stage, "return_champion", away)
        with pytest.raises(StageError) as told:
            deploy(blessed, place)
    assert "the answer was lost; THE WAY BACK FAILED as well (MLflow is away)" in str(told.value)
    assert "python -m tasks champion --model films" in str(told.value)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "set_alias", lost)
        with pytest.raises(StageError, match=r"the answer was lost$"):
            deploy(blessed, place)
    assert recorded(place) == before
    deploy(blessed, place)
    assert is_champion(place, "2")


class Killed(BaseException):
    """The process is gone: nothing that would tidy up runs."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


def at_the_pointer(real: Callable[..., None]) -> Callable[..., None]:
    def write(folder: Path, pointer: Any, **more: Any) -> None:
        if not more:
            raise Killed
        real(folder, pointer, **more)

    return write


def between_mark_and_alias(environment: Environment, *words: str) -> None:
    try:
        refused(environment, *words)
    except StageError:
        raise Killed from None


def after_the_alias(*arguments: Any, moved: Any = registry.set_alias) -> None:
    moved(*arguments)
    raise Killed


KILLS: dict[str, tuple[Any, str, Any]] = {
    "before the journal": (switch, "write_json", die),
    "after the journal": (switch, "write_pointer", die),
    "before the pointer": (switch, "write_pointer", at_the_pointer(switch.write_pointer)),
    "before the alias": (registry, "set_alias", die),
    "between history and alias": (registry, "set_alias", between_mark_and_alias),
    "after the alias": (registry, "set_alias", after_the_alias),
    "before the line": (stage, "note_champion", die),
    "after the line": (switch.Switch, "complete", die),
    "before tidying up": (deployment, "_prune", die),
}


@pytest.mark.parametrize("point", KILLS)
@pytest.mark.parametrize("fails", [False, True], ids=["and succeeds", "and fails"])
def test_after_a_kill_the_next_attempt_ends_as_if_nothing_had_been(
    blessed: RunDirectory,
    place: Environment,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    fails: bool,
) -> None:
    before = recorded(place)
    with monkeypatch.context() as patch:
        patch.setattr(*KILLS[point])
        patch.setattr(deployment, "_undo", die)
        with pytest.raises(Killed):
            deploy(blessed, place)
    moved = recorded(place)["alias"] == "2"
    if fails and not moved:
        with monkeypatch.context() as patch:
            patch.setattr(registry, "set_alias", lost)
            with pytest.raises(StageError, match=r"the answer was lost$"):
                deploy(blessed, place)
        assert recorded(place) == before
    deploy(blessed, place)
    assert is_champion(place, "2")
    assert b'"version": "1"' in recorded(place)["previous.json"]


def test_what_a_person_moved_meanwhile_stays(
    blessed: RunDirectory, place: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved_elsewhere(environment: Environment, model: str, alias: str, version: str) -> None:
        other = client_of(place).create_model_version(model, "file:///nowhere").version
        client_of(place).set_registered_model_alias(model, alias, other)
        raise StageError("the alias is refused")

    monkeypatch.setattr(registry, "set_alias", moved_elsewhere)
    with pytest.raises(StageError, match="the alias is refused"):
        deploy(blessed, place)
    assert recorded(place)["alias"] == "3"


def test_a_line_after_one_that_was_cut_off_is_read(tmp_path: Path) -> None:
    one, two = Champion("1", "1" * 64), Champion("2", "2" * 64)
    champion_log.note_champion(tmp_path, one, by="deploy", reason="")
    path = tmp_path / "champions.jsonl"
    line = path.read_bytes()
    for cut in (b'{"at": "20', b"{", b'{"at": "20\n{"at'):
        path.write_bytes(cut)
        assert champion_log.noted_champion(tmp_path) is None
        path.write_bytes(line + cut)
        assert champion_log.noted_champion(tmp_path) == one
    champion_log.note_champion(tmp_path, two, by="deploy", reason="")
    assert champion_log.noted_champion(tmp_path) == two


def test_without_a_registry_the_line_and_the_pointer_are_the_record(
    night: Night, place: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, run = dataclasses.replace(place, mlflow_uri=""), night("first")
    assert bless(run, alone, NO_COMPARISON).blessed
    answer = KnownAnswer(image_id="a", image=b"", probabilities=(1.0, 0.0))
    monkeypatch.setattr(stage, "known_answers", lambda _: [answer])
    monkeypatch.setattr(deployment, "_ask_probe", lambda *_: 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(champion_log, "os", _FullDisk())
        with pytest.raises(StageError, match="No space left on device"):
            deploy(run, alone)
    folder = place.serving_root / "films"
    assert not (folder / "champion.json").exists()
    assert champion_log.noted_champion(folder) is None
    deploy(run, alone)
    known = agreed_champion(records_here(alone, "films"))
    assert known is not None and known == champion_log.noted_champion(folder)
