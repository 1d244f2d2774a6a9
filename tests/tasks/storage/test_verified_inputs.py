"""What lies on this machine is hashed before it is used, as what is fetched from a store is."""

from pathlib import Path
from typing import Any

import pytest

from tasks.contract import Altered, Manifest, RunDirectory
from tasks.storage import InputCache
from tests.tasks.committed import commit

FILES = {"table.csv": "a,b\n1,2\n", "model/weights": "0.5", "model/assets/words": "yes no"}


@pytest.fixture
def committed(tmp_path: Path) -> Manifest:
    return commit(RunDirectory(str(tmp_path / "films/runs/one")), "train", FILES)


@pytest.fixture
def folder(committed: Manifest) -> Path:
    return Path(committed.location.removeprefix("file://"))


def test_what_is_as_it_was_committed_is_used_where_it_lies(
    committed: Manifest, folder: Path
) -> None:
    cache = InputCache()
    assert cache.path(committed, "table.csv") == folder / "table.csv"
    assert cache.path(committed, "model/") == folder / "model"
    assert cache.read(committed, "table.csv") == b"a,b\n1,2\n"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


ALTERATIONS: dict[str, tuple[str, Any]] = {
    "a flipped bit": ("table.csv", lambda folder: flip(folder / "table.csv")),
    "a flipped bit in a folder": ("model/", lambda folder: flip(folder / "model/weights")),
    "another file": ("model/", lambda folder: (folder / "model/more").write_text("x")),
    "another name": (
        "model/",
        lambda folder: (folder / "model/weights").rename(folder / "model/weights2"),
    ),
    "a missing file of a folder": ("model/", lambda folder: (folder / "model/weights").unlink()),
    "a missing file": ("table.csv", lambda folder: (folder / "table.csv").unlink()),
    "a missing folder": ("model/", lambda folder: (folder / "model").rename(folder / "elsewhere")),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_what_was_altered_is_never_handed_on(
    committed: Manifest, folder: Path, alteration: str
) -> None:
    name, alter = ALTERATIONS[alteration]
    alter(folder)
    place = str(folder / name.rstrip("/"))
    with pytest.raises(Altered) as caught:
        InputCache().path(committed, name)
    assert str(caught.value).startswith(f"{place}: is not what train committed: ")
    assert str(caught.value).endswith("; run train again with --force")
    assert (caught.value.exit_code, caught.value.stage) == (65, "train")


def test_the_bytes_that_are_used_are_those_that_were_hashed(
    committed: Manifest, folder: Path
) -> None:
    cache = InputCache()
    cache.path(committed, "table.csv")
    flip(folder / "table.csv")
    with pytest.raises(Altered, match=r"table\.csv: is not what train committed: sha256 is \w{12}"):
        cache.read(committed, "table.csv")
