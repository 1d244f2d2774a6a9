"""CRC-32C (Castagnoli, RFC 3720 appendix B.4), the checksum of TFRecord files.

The checksum is linear: a message's is the exclusive or of what each byte contributes, by its value
and its distance from the end. So numpy looks up the contributions of a block at once.
"""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1024
"""Bytes looked up at once; the table of contributions has a kilobyte for each."""

_STRIP = 64 * BLOCK
"""Bytes handled at once: what they expand to stays in the processor's cache."""

_POLYNOMIAL = 0x82F63B78
_ALL = 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """Return the checksum of some bytes."""
    if len(data) < 16:
        return _bytewise(data)
    return _blockwise(data)


def masked_crc32c(data: bytes) -> int:
    """Return the checksum as TFRecord files store it.

    Rotated, and with a constant added, as a checksum of bytes that hold checksums would be weak
    (tensorflow/core/lib/hash/crc32c.h).
    """
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & _ALL


def _bytewise(data: bytes) -> int:
    table = _byte_table()
    crc = _ALL
    for value in data:
        crc = table[(crc ^ value) & 0xFF] ^ (crc >> 8)
    return crc ^ _ALL


def _blockwise(data: bytes) -> int:
    import numpy as np

    contributions, offsets = _contributions()
    first, second, third, fourth = _past_a_block()
    values = np.frombuffer(data, dtype=np.uint8)
    # the first strip takes what is left over, and holds the first four bytes at least
    crc, start, end = 0, 0, len(values) % _STRIP
    end += _STRIP if end < 4 else 0
    while start < len(values):
        strip = values[start:end]
        rows = -(-len(strip) // BLOCK)
        # zeros before a message contribute nothing, so what is no whole block is filled up there
        padded = np.zeros(rows * BLOCK, dtype=np.intp)
        padded[len(padded) - len(strip) :] = strip
        if start == 0:
            # the initial value acts as if it were in the first four bytes
            padded[len(padded) - len(strip) :][:4] ^= 0xFF
        found = contributions.take(padded.reshape(rows, BLOCK) + offsets)
        for block in np.bitwise_xor.reduce(found, axis=1).tolist():
            crc = (
                first[crc & 0xFF]
                ^ second[crc >> 8 & 0xFF]
                ^ third[crc >> 16 & 0xFF]
                ^ fourth[crc >> 24]
                ^ block
            )
        start, end = end, end + _STRIP
    return crc ^ _ALL


@cache
def _byte_table() -> tuple[int, ...]:
    values = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        values.append(crc)
    return tuple(values)


@cache
def _contributions() -> tuple["NDArray[np.uint32]", "NDArray[np.intp]"]:
    """Return what each value contributes at each place of a block, and where a place's begin."""
    import numpy as np

    table = np.array(_byte_table(), dtype=np.uint32)
    places = np.empty((BLOCK, 256), dtype=np.uint32)
    places[-1] = table
    for place in range(BLOCK - 2, -1, -1):
        following = places[place + 1]
        places[place] = (following >> 8) ^ table[following & 0xFF]
    return places.ravel(), np.arange(BLOCK, dtype=np.intp) * 256


@cache
def _past_a_block() -> tuple[list[int], ...]:
    """Return what each byte of a checksum becomes when a block of zeros follows."""
    import numpy as np

    table = np.array(_byte_table(), dtype=np.uint32)
    moved = []
    for byte in range(4):
        crc = np.arange(256, dtype=np.uint32) << np.uint32(8 * byte)
        for _ in range(BLOCK):
            crc = (crc >> 8) ^ table[crc & 0xFF]
        moved.append(crc.tolist())
    return tuple(moved)
