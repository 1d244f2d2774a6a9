"""Replacing the pointers: undone byte for byte until the version is the champion."""

from pathlib import Path

import pytest

from tasks.serving import switch
from tasks.serving.files import PREVIOUS, Pointer, read_pointer, write_pointer
from tasks.serving.limits import read_limits, write_limits
from tasks.serving.switch import Switch, settle

ONE, TWO, THREE = (
    Pointer(version=number, digest=number * 64, path=f"{number}-{number * 12}") for number in "123"
)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_pointers_name_the_new_version_and_the_one_before(tmp_path: Path) -> None:
    write_pointer(tmp_path, ONE)
    step = Switch.prepare(tmp_path, TWO)
    step.take()
    step.complete()
    assert read_pointer(tmp_path) == TWO
    assert read_pointer(tmp_path, name=PREVIOUS) == ONE
    assert set(files(tmp_path)) == {"champion.json", "previous.json"}


@pytest.mark.parametrize(
    "before",
    [
        {},
        {"champion.json": b'{"version": "1",\n "digest": "d", "path": "1"}\n'},
        {"champion.json": b'{"version": "1", "digest": "d", "path": "1", "by": "hand"}',
         "previous.json": b"\xff not JSON"},
        {"previous.json": b'{"version": "0", "digest": "c", "path": "0"}'},
    ],
    ids=["nothing", "the first version", "files written by hand", "taken out of service"],
)  # fmt: skip
def test_undone_every_byte_is_as_it_was(tmp_path: Path, before: dict[str, bytes]) -> None:
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    step = Switch.prepare(tmp_path, TWO)
    step.take()
    assert read_pointer(tmp_path) == TWO
    step.undo()
    step.complete()
    assert files(tmp_path) == before


@pytest.mark.parametrize("writes", [1, 2, 3], ids=["journal", "way back", "pointer"])
def test_a_kill_after_any_write_can_be_undone_by_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    write_pointer(tmp_path, TWO)
    write_pointer(tmp_path, ONE, name=PREVIOUS)
    before = files(tmp_path)
    left = writes

    def killed(path: Path, document: object, write: object = switch.write_json) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        write(path, document)  # type: ignore[operator]

    monkeypatch.setattr("tasks.serving.switch.write_json", killed)
    monkeypatch.setattr("tasks.serving.files.write_json", killed)
    try:
        Switch.prepare(tmp_path, THREE).take()
    except KeyboardInterrupt:
        assert writes < 3
    monkeypatch.undo()

    again = Switch.prepare(tmp_path, THREE)
    assert again.previous == TWO
    again.take()
    assert (read_pointer(tmp_path), read_pointer(tmp_path, name=PREVIOUS)) == (THREE, TWO)
    again.undo()
    again.complete()
    assert files(tmp_path) == before


def test_what_a_killed_attempt_at_another_version_left_is_not_the_way_back(tmp_path: Path) -> None:
    write_pointer(tmp_path, ONE)
    Switch.prepare(tmp_path, TWO).take()
    # the records agreed on version 2 meanwhile
    before = {name: content for name, content in files(tmp_path).items() if name[0] != "."}
    step = Switch.prepare(tmp_path, THREE)
    assert step.previous == TWO
    step.take()
    step.undo()
    step.complete()
    assert files(tmp_path) == before


def test_the_same_version_again_keeps_the_way_back(tmp_path: Path) -> None:
    write_pointer(tmp_path, TWO)
    write_pointer(tmp_path, ONE, name=PREVIOUS)
    step = Switch.prepare(tmp_path, TWO)
    step.take()
    step.complete()
    assert (read_pointer(tmp_path), read_pointer(tmp_path, name=PREVIOUS)) == (TWO, ONE)


@pytest.mark.parametrize("undone", [False, True], ids=["after the step", "on the way back"])
def test_what_the_registry_said_before_outlives_a_kill(tmp_path: Path, undone: bool) -> None:
    write_pointer(tmp_path, ONE)
    step = Switch.prepare(tmp_path, TWO, registry={"champion": "1"})
    step.take()
    if undone:
        step.undo()
    assert Switch.prepare(tmp_path, TWO, registry={"champion": "2"}).registry == {"champion": "1"}
    # a step to another version begins with what is so now
    assert Switch.prepare(tmp_path, THREE, registry={"champion": "2"}).registry == {"champion": "2"}


@pytest.mark.parametrize("writes", [1, 2, 3, 4], ids=["journal", "bounds", "way back", "pointer"])
def test_the_bounds_change_and_go_back_with_the_pointers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    write_pointer(tmp_path, ONE)
    write_limits(tmp_path, max_pixels=7)
    before, left = files(tmp_path), writes

    def killed(path: Path, document: object, write: object = switch.write_json) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        write(path, document)  # type: ignore[operator]

    for module in ("switch", "files", "limits"):
        monkeypatch.setattr(f"tasks.serving.{module}.write_json", killed)
    try:
        Switch.prepare(tmp_path, TWO, max_pixels=8).take()
    except KeyboardInterrupt:
        assert writes < 4
    monkeypatch.undo()
    again = Switch.prepare(tmp_path, TWO, max_pixels=8)
    again.take()
    assert (read_limits(tmp_path), read_pointer(tmp_path)) == (8, TWO)
    again.undo()
    again.complete()
    assert files(tmp_path) == before


def test_a_step_back_from_a_killed_one_leaves_the_way_back_as_it_was(tmp_path: Path) -> None:
    write_pointer(tmp_path, TWO)
    write_pointer(tmp_path, ONE, name=PREVIOUS)
    before = files(tmp_path)
    Switch.prepare(tmp_path, THREE).take()
    step = Switch.prepare(tmp_path, TWO)
    step.take()
    step.complete()
    assert files(tmp_path) == before


@pytest.mark.parametrize("pointed", [False, True])
def test_a_settled_step_leaves_what_serves_and_no_way_to_undo_it(
    tmp_path: Path, pointed: bool
) -> None:
    write_pointer(tmp_path, TWO)
    write_pointer(tmp_path, ONE, name=PREVIOUS)
    before = files(tmp_path)
    Switch.prepare(tmp_path, THREE).take()
    if not pointed:
        # killed before the last write
        write_pointer(tmp_path, TWO)
    settle(tmp_path)
    assert read_pointer(tmp_path) == (THREE if pointed else TWO)
    assert read_pointer(tmp_path, name=PREVIOUS) == (TWO if pointed else ONE)
    assert files(tmp_path).keys() == before.keys()
