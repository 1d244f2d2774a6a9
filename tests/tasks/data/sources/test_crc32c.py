"""The checksum is that of RFC 3720, whatever the length."""

import numpy as np
import pytest

from tasks.data.sources.crc32c import BLOCK, crc32c, masked_crc32c


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_checksums_are_met(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


def _by_division(data: bytes) -> int:
    remainder = 0xFFFFFFFF
    for value in data:
        remainder ^= value
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    "length",
    [1, 3, 4, 15, 16, 17, BLOCK - 1, BLOCK, BLOCK + 1, 64 * BLOCK, 64 * BLOCK + 1, 64 * BLOCK + 4],
)
def test_every_length_is_divided_alike(length: int) -> None:
    data = np.random.default_rng(length).integers(0, 256, length, np.uint8).tobytes()
    assert crc32c(data) == _by_division(data)


def test_a_single_bit_changes_it() -> None:
    data = bytearray(5000)
    before = masked_crc32c(bytes(data))
    for place in (0, 3, 4, 1023, 2500, 4999):
        data[place] ^= 1
        assert masked_crc32c(bytes(data)) != before
        data[place] ^= 1
    assert masked_crc32c(bytes(data)) == before
