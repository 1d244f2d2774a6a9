"""Reads pickles that hold an array of bytes and plain values, and refuses every other.

A pickle is a program. Of its instructions only those that build texts, numbers, lists, dicts and
tuples are admitted; the few names that an array's pickle calls are answered by stand-ins of our
own, which note what they are given; and numpy sees nothing but the plain bytes.
"""

import io
import pickle
import pickletools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_TUPLES = 32
"""Tuples in a file, of which an array needs six. Nested by reference, each may double the work of
the one before, as a dict's key does."""

MOST_INSTRUCTIONS = 5_000_000
"""Of a file; a batch of 10,000 images has about 60,000."""

MOST_BITS = 60
"""Of a whole number: larger ones can be chosen so that a dict with them as keys takes hours."""

_CALLED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    # protocol 5
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
}

_ADMITTED = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "MEMOIZE", "GLOBAL", "STACK_GLOBAL"),
        *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "REDUCE", "BUILD"),
        *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG1"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BYTEARRAY8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
        *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    )
)
_TUPLES = frozenset(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_NUMBERS = frozenset(("INT", "LONG1"))


class UnsafePickle(ValueError):
    """The pickle is damaged, or holds more than an array of bytes and plain values."""


def load_arrays(content: bytes) -> Any:
    """Read a pickle.

    Parameters
    ----------
    content : bytes
        The pickle, of protocol 0 to 5.

    Returns
    -------
    object
        Plain values: texts as ``bytes``, arrays as ``numpy.ndarray`` of ``uint8``.

    Raises
    ------
    UnsafePickle
        It is damaged, or holds anything else.
    """
    try:
        _check_instructions(content)
        return _finished(_Unpickler(io.BytesIO(content), encoding="bytes").load())
    except UnsafePickle:
        raise
    except (MemoryError, RecursionError):
        raise UnsafePickle("does not fit into memory") from None
    except Exception as error:
        # a crafted pickle makes the unpickler raise nearly anything
        reason = " ".join(str(error).split())[:120]
        raise UnsafePickle(f"is no pickle of arrays: {reason or type(error).__name__}") from None


def _check_instructions(content: bytes) -> None:
    count = tuples = 0
    for instruction, argument, position in pickletools.genops(content):
        count += 1
        tuples += instruction.name in _TUPLES
        if instruction.name not in _ADMITTED:
            raise UnsafePickle(
                f"holds more than arrays: instruction {instruction.name} at byte {position}"
            )
        # the unpickler makes room for every number below
        if instruction.name in _PUTS and not 0 <= int(argument or 0) <= count:
            raise UnsafePickle(f"is damaged: memo {argument} at byte {position}")
        if instruction.name in _NUMBERS and int(argument or 0).bit_length() > MOST_BITS:
            raise UnsafePickle(f"holds a number of more than {MOST_BITS} bits at byte {position}")
        if count > MOST_INSTRUCTIONS:
            raise UnsafePickle(f"holds more than {MOST_INSTRUCTIONS} values")
        if tuples > MOST_TUPLES:
            raise UnsafePickle(f"holds more than one array: {tuples} tuples at byte {position}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _CALLED:
            raise UnsafePickle(f"holds more than arrays: asks for {module[:60]}.{name[:60]}")
        return _StandIn(name)


@dataclass(frozen=True, slots=True)
class _StandIn:
    """Takes the place of a name that an array's pickle calls."""

    name: str

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "_reconstruct":
            return _Array()
        if self.name == "dtype":
            return _Dtype(arguments[0] if arguments else None)
        if self.name == "_frombuffer":
            raw, dtype, shape, order = arguments
            return _Array(raw, dtype, shape, fortran=order == "F")
        raise UnsafePickle(f"holds more than arrays: calls {self.name}")


class _Dtype:
    __slots__ = ("code",)

    def __init__(self, code: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Byte order, fields and the like do not matter to bytes."""


class _Array:
    __slots__ = ("values",)

    def __init__(self, *described: Any, fortran: bool = False) -> None:
        self.values = _array(*described, fortran=fortran) if described else None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.values = _array(raw, dtype, shape, fortran=bool(fortran))


def _array(raw: Any, dtype: Any, shape: Any, *, fortran: bool) -> "NDArray[np.uint8]":
    import numpy as np

    if not isinstance(dtype, _Dtype) or dtype.code not in (b"u1", "u1"):
        raise UnsafePickle("holds an array of something else than bytes (uint8)")
    sides = [side for side in shape if type(side) is int and side >= 0]
    if not isinstance(raw, bytes | bytearray) or len(sides) != len(shape):
        raise UnsafePickle("is damaged: an array without bytes or shape")
    return np.frombuffer(raw, dtype=np.uint8).reshape(sides, order="F" if fortran else "C")


def _finished(value: Any) -> Any:
    """Return a dict with the arrays that its values stand for."""
    if not isinstance(value, dict):
        raise UnsafePickle(f"holds a {type(value).__name__} where a dict is expected")
    return {key: item.values if isinstance(item, _Array) else item for key, item in value.items()}
