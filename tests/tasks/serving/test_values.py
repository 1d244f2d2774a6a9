"""What a request holds is read at a cost that its size bounds; counted, not timed."""

import base64
import gc
import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tasks.serving.cycles import NO_SEARCH
from tasks.serving.image_size import MAX_PARTS, pixels_of
from tasks.serving.limits import MI
from tasks.serving.unpacking import ENCODINGS, MAX_MEMBERS, NotPacked, Unpacking
from tasks.serving.values import (
    MAX_DIMENSIONS,
    STEP,
    BadRequest,
    check_shape,
    decoded,
    flat,
    numbers,
    shown,
)


def peak(work: Callable[[], Any]) -> int:
    """Return the most memory that a piece of work took; a wrong request is one way to end it."""
    tracemalloc.start()
    try:
        work()
    except BadRequest:
        pass
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


def test_a_shape_is_short_and_of_whole_numbers() -> None:
    assert check_shape([2, 0, 2**31 - 1], "x") == [2, 0, 2**31 - 1]
    wrong: list[Any] = [None, "12", [2] * (MAX_DIMENSIONS + 1), [2**31 - 1] * 90_000]
    for shape in [*wrong, [-1], [2**31], [10**300], [1.0], [True], ["1"], [[1]]]:
        with pytest.raises(BadRequest, match=r"^x: shape must be a list of at most 8 whole"):
            check_shape(shape, "x")


@pytest.mark.parametrize("blanks", ["", "\n", " \t\r\n\v\f"])
@pytest.mark.parametrize("length", [1, 2, 3, STEP * 3 // 4 - 1, STEP * 3 // 4, STEP + 1])
def test_base64_of_every_length_is_decoded_whole(length: int, blanks: str) -> None:
    content = np.random.default_rng(length).bytes(length)
    text = base64.b64encode(content).decode()
    lines = [text[at : at + 77] for at in range(0, len(text), 77)]
    assert decoded(blanks.join(lines) + blanks, "x") == content
    assert decoded(text.rstrip("=").replace("+", "-").replace("/", "_"), "x") == content


@pytest.mark.parametrize(
    "text", ["QUJDR", "QQ==QQ==", "A" * STEP + "=" + "A" * STEP, "é" * 5, "AA!A", "A\0AA"]
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="x: is not base64"):
        decoded(text, "x")


@pytest.mark.parametrize("text", ["aa " * MI, "a" * 3 * MI, " " * 3 * MI, "=" * 3 * MI, "a\n" * MI])
def test_decoding_takes_little_more_memory_than_the_text(text: str) -> None:
    assert peak(lambda: decoded(text, "x")) < 2 * len(text) + 8 * STEP


def test_lists_of_numbers_become_what_numpy_makes_of_them() -> None:
    for values in ([1, 2.5, True], [[1], [2]], [[[0] * 3] * 2] * 4, [[]], [2**64 - 1, -1]):
        found = numbers(values, "x")
        assert found.dtype == np.float32
        assert np.array_equal(found, np.asarray(values, np.float32))
    assert np.isinf(numbers([1e300], "x")).all()


DEEP: list[Any] = []
for _ in range(500):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "values",
    [
        # numpy makes room for a thousand texts as long as the first
        [["A" * MI, *[""] * 1000]],
        [["A" * MI], *[[""]] * 1000],
        [[0, "A" * MI], *[[0, 0]] * 1000],
        [[1], [1, 2]],
        [[1], 1],
        [None] * 1000,
        [[{}]],
        DEEP,
    ],
    ids=["a long text", "in a column", "beside numbers", "ragged", "mixed", "null", "{}", "deep"],
)
def test_what_is_no_number_takes_no_memory(values: list[Any]) -> None:
    with pytest.raises(BadRequest, match="not equal lists of numbers"):
        numbers(values, "x")
    assert peak(lambda: numbers(values, "x")) < MI


def test_texts_are_flattened_to_a_depth() -> None:
    assert flat([[["a"], ["b"]]], "x") == ["a", "b"]
    for values in (DEEP, [["a"], "b"]):
        with pytest.raises(BadRequest, match="flat list"):
            flat(values, "x")


@pytest.mark.parametrize("value", ["a" * 9 * MI, ["a"] * MI, {"a": ["b"] * MI}, DEEP, 7, 1.5, None])
def test_a_message_writes_no_more_of_a_value_than_it_shows(value: Any) -> None:
    assert len(shown(value)) < 70
    assert peak(lambda: shown(value)) < 10_000


def unpack(body: bytes, encoding: str = "gzip") -> tuple[bytes, int]:
    """Return what comes out of a body, and in how many pieces."""
    pieces: list[int] = []
    unpacking = Unpacking(body, encoding, pieces.append)
    assert unpacking.advance()
    return bytes(unpacking.whole), len(pieces)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("content", [b"", b"x", bytes(5 * MI), np.random.default_rng(0).bytes(MI)])
def test_a_body_is_unpacked_in_pieces(encoding: str, content: bytes) -> None:
    body = (zlib if encoding == "deflate" else gzip).compress(content)
    found, pieces = unpack(body, encoding)
    assert found == content
    assert pieces <= 2 + len(body) // 65536 + len(content) // MI


def test_a_body_of_several_members_is_unpacked_and_one_of_very_many_refused() -> None:
    parts = [bytes([number]) * 100_000 for number in range(MAX_MEMBERS)]
    assert unpack(b"".join(map(gzip.compress, parts)))[0] == b"".join(parts)
    pieces: list[int] = []
    for body in (gzip.compress(b"") * 100_000, gzip.compress(b"x") * (MAX_MEMBERS + 1)):
        with pytest.raises(NotPacked, match="more than 16 pieces"):
            Unpacking(body, "gzip", pieces.append).advance()
    assert len(pieces) == 2 * MAX_MEMBERS


def test_unpacking_stops_where_it_is_told_and_goes_on() -> None:
    unpacking = Unpacking(gzip.compress(bytes(9 * MI)), "gzip", lambda size: None)
    assert not unpacking.advance(MI)
    assert len(unpacking.whole) < 3 * MI
    assert unpacking.advance()
    assert unpacking.whole == bytes(9 * MI)


def test_a_body_of_nothing_unpacks_to_nothing() -> None:
    assert unpack(b"") == (b"", 0)


@pytest.mark.parametrize(
    "body",
    # without the time of day: it would be a part of the test's name
    [b"x", gzip.compress(b"abc", mtime=0)[:-1], gzip.compress(bytes(9 * MI), mtime=0)[:-20]],
)
def test_a_body_that_is_cut_off_is_noticed(body: bytes) -> None:
    with pytest.raises(NotPacked, match="body"):
        unpack(body)
    with pytest.raises(NotPacked, match="not what"):
        unpack(gzip.compress(b"abc") + b"rest")


GIF = b"GIF89a\1\0\1\0\0\0\0"


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (b"\xff\xd8\xff", b"\xff\0"),
        (b"\xff\xd8\xff\xe0", b"\0\2\xff\xe0"),
        (GIF + b"\x21\xfe", b"\1x"),
        (GIF, b"\x21\xfe\0"),
        (b"RIFF\0\0\0\0WEBP", b"XXXX\0\0\0\0"),
    ],
    ids=["JPEG", "JPEG markers", "GIF blocks", "GIF extensions", "WebP chunks"],
)
def test_a_file_of_very_many_parts_is_not_walked_to_its_end(start: bytes, part: bytes) -> None:
    frame = b"\xff\xc0\0\x11\x08\0\1\0\1"
    assert pixels_of(start + part * (MAX_PARTS + 1) + frame) is None


def test_a_marker_may_begin_with_very_many_bytes() -> None:
    assert pixels_of(b"\xff\xd8" + b"\xff" * 9 * MI + b"\xc0\0\x11\x08\0\2\0\3") == 6
    assert pixels_of(b"\xff\xd8" + b"\xff" * 9 * MI) is None


def test_of_bodies_that_are_parsed_at_once_the_last_allows_the_search_for_cycles_again() -> None:
    assert gc.isenabled()
    with NO_SEARCH:
        with NO_SEARCH:
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
