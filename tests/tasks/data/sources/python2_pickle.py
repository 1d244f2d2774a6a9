"""Writes the batches of CIFAR-10 as Python 2 did: protocol 2, every text a byte string."""

from struct import pack
from typing import Any

import numpy as np


def dumps(value: Any) -> bytes:
    """Return the pickle of a dict of arrays, lists and texts."""
    return b"\x80\x02" + _written(value) + b"."


def _written(value: Any) -> bytes:
    if isinstance(value, bytes):
        short = len(value) < 256
        return (b"U" + bytes([len(value)]) if short else b"T" + pack("<i", len(value))) + value
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"J" + pack("<i", value)
    if value is None:
        return b"N"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_written, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_written, value)) + b"e"
    if isinstance(value, dict):
        items = b"".join(_written(key) + _written(item) for key, item in value.items())
        return b"}(" + items + b"u"
    if isinstance(value, np.ndarray):
        start = b"cnumpy\nndarray\n" + _written((0,)) + _written(b"b")
        array = b"cnumpy.core.multiarray\n_reconstruct\n(" + start + b"tR"
        code = value.dtype.str[1:].encode()
        dtype = b"cnumpy\ndtype\n" + _written((code, 0, 1)) + b"R"
        dtype += _written((3, b"|", None, None, None, -1, -1, 0)) + b"b"
        state = (
            _written((1, value.shape))[:-1] + dtype + _written(False) + _written(value.tobytes())
        )
        return array + state + b"tb"
    raise TypeError(type(value))
