"""The serving root on disk."""

import os
from pathlib import Path

import pytest

from tasks.contract import tree_sha256
from tasks.serving.files import Pointer, pointed_models, read_pointer, tree_digest, write_pointer

POINTER = Pointer(version="4", digest="d", path="4")


def test_the_servers_digest_is_that_of_the_contract(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "a").write_bytes(b"1")
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "é b").write_bytes(b"")
    assert tree_digest(tmp_path) == tree_sha256(tmp_path)
    (tmp_path / "variables" / "a").write_bytes(b"2")
    assert tree_digest(tmp_path) == tree_sha256(tmp_path)


@pytest.mark.parametrize("target", [b"variables", b"/nowhere", b"/nowhere/\xff"])
def test_a_link_to_what_is_no_file_alters_the_digest(tmp_path: Path, target: bytes) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / b"a\xff".decode(errors="surrogateescape")).write_bytes(b"1")
    before = tree_digest(tmp_path)
    os.symlink(target, os.fsencode(tmp_path / "assets"))
    linked = tree_digest(tmp_path)
    assert linked != before and linked == tree_sha256(tmp_path)
    (tmp_path / "assets").unlink()
    os.symlink(target + b"2", os.fsencode(tmp_path / "assets"))
    assert tree_digest(tmp_path) == tree_sha256(tmp_path) != linked


def test_a_pointer_is_read_as_written_and_taken_away(tmp_path: Path) -> None:
    write_pointer(tmp_path, POINTER)
    assert read_pointer(tmp_path) == POINTER
    write_pointer(tmp_path, None)
    assert read_pointer(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "4"}', "null"])
def test_a_damaged_pointer_points_to_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "champion.json").write_text(text)
    assert pointed_models(tmp_path) == {}
