"""Archives are unpacked whole or refused, and nothing in them reaches outside."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.contract import BadInput
from tasks.data import archives
from tasks.data.archives import is_archive, unpack


def _tar(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as opened:  # type: ignore[call-overload]
        for info, content in entries:
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def _file(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def _special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_every_kind_of_tar_is_unpacked(tmp_path: Path, mode: str) -> None:
    archive = _tar(tmp_path / "a", [_file("d/a.txt", b"one"), _file("b.txt", b"two")], mode)
    assert is_archive(archive)
    out = unpack(archive, tmp_path / "out")
    assert (out / "d/a.txt").read_bytes() == b"one"
    assert (out / "b.txt").read_bytes() == b"two"


def test_a_zip_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("d/", "")
        opened.writestr("d/a.txt", "one")
    assert (unpack(archive, tmp_path / "out") / "d/a.txt").read_text() == "one"


def test_a_zip_with_the_separators_of_windows_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("d\\", "")
        opened.writestr("d\\e\\a.txt", "one")
    assert (unpack(archive, tmp_path / "out") / "d/e/a.txt").read_text() == "one"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("..\\evil", "one")
    with pytest.raises(BadInput, match="would leave the folder"):
        unpack(archive, tmp_path / "out")
    # a backslash is a character where the format's own separator is used
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("d/a\\b.txt", "one")
    assert (unpack(archive, tmp_path / "out") / "d/a\\b.txt").read_text() == "one"


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..", "./../evil"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_entry_that_would_escape_refuses_the_archive(
    tmp_path: Path, name: str, kind: str
) -> None:
    archive = tmp_path / "inner" / "a"
    archive.parent.mkdir()
    if kind == "tar":
        _tar(archive, [_file("good"), _file(name)])
    else:
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("good", "x")
            opened.writestr(name, "x")
    with pytest.raises(BadInput, match="would leave the folder"):
        unpack(archive, archive.parent / "out")
    assert not (tmp_path / "evil").exists()
    assert not (archive.parent / "out").exists()


def test_links_and_devices_are_left_out_and_nothing_is_written_through_them(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("before")
    archive = _tar(
        tmp_path / "a.tar",
        [
            _special("door", tarfile.SYMTYPE, str(outside)),
            _file("door/secret", b"after"),
            _special("hard", tarfile.LNKTYPE, str(outside / "secret")),
            _special("pipe", tarfile.FIFOTYPE),
            _special("device", tarfile.CHRTYPE),
        ],
    )
    out = unpack(archive, tmp_path / "out")
    assert (outside / "secret").read_text() == "before"
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*")) == ["door", "door/secret"]
    assert not (out / "door").is_symlink()


def test_a_link_in_a_zip_is_left_out(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        link = zipfile.ZipInfo("door")
        link.external_attr = 0o120777 << 16
        opened.writestr(link, "/etc")
        opened.writestr("good", "x")
    out = unpack(archive, tmp_path / "out")
    assert [entry.name for entry in out.iterdir()] == ["good"]


def test_a_bomb_is_stopped_by_what_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 1_000_000)
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("zeros", bytes(30_000_000))
    with pytest.raises(BadInput, match=r"unpacks to more than \d+ bytes"):
        unpack(archive, tmp_path / "out")


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 3)
    archive = _tar(tmp_path / "a.tar", [_file(f"f{number}") for number in range(4)])
    with pytest.raises(BadInput, match="more than 3 files"):
        unpack(archive, tmp_path / "out")


def test_a_damaged_archive_is_refused_in_one_line(
    tmp_path: Path, image_bytes: Callable[..., bytes]
) -> None:
    whole = _tar(
        tmp_path / "whole.tar.gz",
        [_file(f"{n}", image_bytes(n, size=64)) for n in range(9)],
        "w:gz",
    )
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[:-3000])
    with pytest.raises(BadInput, match=r"^cut.tar.gz: cannot be unpacked: [^\n]+$"):
        unpack(cut, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_both_file_and_folder_is_refused(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", [_file("x"), _file("x/y")])
    with pytest.raises(BadInput, match="both as file and as folder"):
        unpack(archive, tmp_path / "out")


def test_an_overlong_name_is_refused(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", [_file("n" * 300)])
    with pytest.raises(BadInput, match="too long"):
        unpack(archive, tmp_path / "out")


def test_what_an_earlier_attempt_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale").write_text("x")
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "half").write_text("x")
    out = unpack(_tar(tmp_path / "a.tar", [_file("new")]), tmp_path / "out")
    assert [entry.name for entry in out.iterdir()] == ["new"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("header")
    header.type, header.size = kind, 50_000_000
    archive = tmp_path / "bomb.tar.gz"
    with gzip.open(archive, "wb", 1) as stream:
        stream.write(header.tobuf())
        stream.write(bytes(header.size))
    assert is_archive(archive)
    with pytest.raises(BadInput, match="an extended header has 50000000 bytes"):
        unpack(archive, tmp_path / "out")


def test_what_is_skipped_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 1_000_000)
    hidden = tarfile.TarInfo("hidden")
    # a kind that nobody knows, with contents
    hidden.type, hidden.size = b"Z", 60_000_000
    archive = tmp_path / "bomb.tar.gz"
    with gzip.open(archive, "wb") as stream:
        stream.write(hidden.tobuf())
        stream.write(bytes(hidden.size))
    with pytest.raises(BadInput, match="unpacks to more than"):
        unpack(archive, tmp_path / "out")


def test_a_flood_of_links_is_counted_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    links = [_special(f"l{number}", tarfile.SYMTYPE, "/etc") for number in range(50)]
    archive = _tar(tmp_path / "a.tar", links)
    unpack(archive, tmp_path / "out")
    named = [record for record in caplog.records if "left out" in record.getMessage()]
    assert len(named) == 6
    assert "50 entries are left out" in named[-1].getMessage()
    monkeypatch.setattr(archives, "MAX_ENTRIES", 49)
    with pytest.raises(BadInput, match="more than 49 files"):
        unpack(archive, tmp_path / "out")


def test_an_overlong_folder_is_refused(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", [_file(f"{'n' * 300}/x")])
    with pytest.raises(BadInput, match="too long"):
        unpack(archive, tmp_path / "out")


def test_a_flipped_byte_in_a_packed_tar_is_refused_in_one_line(tmp_path: Path) -> None:
    content = bytes(range(256)) * 400
    archive = _tar(tmp_path / "a.tar.gz", [_file("a", content)], "w:gz")
    damaged = bytearray(archive.read_bytes())
    damaged[-6] ^= 0xFF
    archive.write_bytes(damaged)
    with pytest.raises(BadInput, match=r"^a\.tar\.gz: cannot be unpacked: [^\n]+$"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_folders_without_end_are_refused(tmp_path: Path, kind: str) -> None:
    archive, name = tmp_path / "a", "d/" * 1500 + "x"
    if kind == "tar":
        _tar(archive, [_file(name)])
    else:
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(name, "x")
    with pytest.raises(BadInput, match="lies deeper than 100 folders"):
        unpack(archive, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_stands_twice_is_refused(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "labels"
    if kind == "tar":
        _tar(archive, [_file("d/metadata.csv", b"one"), _file("./d/metadata.csv", b"two")])
    else:
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("d/metadata.csv", "one")
            opened.writestr("d/metadata.csv", "two")
    with pytest.raises(BadInput, match=r"labels: holds '.*metadata\.csv' twice.*pack it anew"):
        unpack(archive, tmp_path / "out")
