"""The values of a request: numbers, base64 and shapes, read at a cost that their size bounds."""

import binascii
import re
from itertools import chain
from typing import Any, Literal

import numpy as np

MAX_DIMENSIONS = 8
"""Of a tensor, and of lists within lists."""

STEP = 1 << 20
"""Characters of base64 that are decoded at a time; other requests get their turn in between."""

_BLANKS = " \t\r\n\v\f"
_ALPHABET = bytes.maketrans(b"-_", b"+/")
_URI = re.compile(r"data:[\w.+-]*/?[\w.+;=-]*?;base64,")


class BadRequest(ValueError):
    """A request is wrong; the text is one sentence for its sender."""


def shown(value: object) -> str:
    """Return a value for a message: texts are cut, and what holds others is named, not written.

    Parameters
    ----------
    value : object
        As it was sent.
    """
    if isinstance(value, str):
        return ascii(value[:60])
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    return str(value)


def check_shape(shape: Any, where: str) -> list[int]:
    """Return the shape of a tensor.

    Parameters
    ----------
    shape : Any
        As it was sent.
    where : str
        What is read, for the message.

    Raises
    ------
    BadRequest
        It is none.
    """
    # the length first: a product of many factors takes minutes
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_DIMENSIONS
        or not all(type(each) is int and 0 <= each < 1 << 31 for each in shape)
    ):
        raise BadRequest(
            f"{where}: shape must be a list of at most {MAX_DIMENSIONS} whole numbers below 2**31"
        )
    return shape


def check_fits(
    found: int, wanted: int, *, shape: list[int], unit: Literal["values", "bytes"], where: str
) -> None:
    """Check that the data of a tensor fit its shape.

    Parameters
    ----------
    found, wanted : int
        Values or bytes that were sent, and those that the shape asks for.
    shape : list of int
        The shape, for the message.
    unit : {"values", "bytes"}
        What is counted.
    where : str
        What is read, for the message.

    Raises
    ------
    BadRequest
        They do not.
    """
    if found != wanted:
        raise BadRequest(f"{where}: data do not fit shape {shape}: they have {found} {unit}")


def numbers(values: list[Any], where: str) -> "np.ndarray[Any, Any]":
    """Return nested lists of numbers as float32.

    Numpy is given nothing but a flat list of numbers: of texts it makes an array whose every item
    is as long as the longest.

    Parameters
    ----------
    values : list
        Numbers, or lists of equal length.
    where : str
        What is read, for the message.

    Raises
    ------
    BadRequest
        The lists are not of equal lengths, are too deep or hold something else.
    """
    shape = [len(values)]
    while (kinds := set(map(type, values))) == {list} and len(shape) < MAX_DIMENSIONS:
        lengths = set(map(len, values))
        if len(lengths) > 1:
            break
        shape += lengths
        values = list(chain.from_iterable(values))
    if not kinds <= {int, float, bool}:
        raise BadRequest(f"{where} are not equal lists of numbers")
    with np.errstate(over="ignore"):
        return np.array(values, np.float32).reshape(shape)


def flat(values: list[Any], where: str) -> list[Any]:
    """Flatten the data of a tensor of texts, which may be nested as its shape is.

    Parameters
    ----------
    values : list
        Texts, or lists of them.
    where : str
        What is read, for the message.

    Raises
    ------
    BadRequest
        Lists and texts are mixed.
    """
    for _ in range(MAX_DIMENSIONS):
        kinds = set(map(type, values))
        if list not in kinds:
            return values
        if kinds != {list}:
            break
        values = list(chain.from_iterable(values))
    raise BadRequest(f"{where}: data must be a flat list of base64 texts")


def decoded(text: Any, where: str) -> bytes:
    """Decode base64: with line breaks, without padding, of both alphabets, as a data URI.

    Parameters
    ----------
    text : Any
        As it was sent.
    where : str
        What is read, for the message.

    Raises
    ------
    BadRequest
        It is none.
    """
    if not isinstance(text, str):
        raise BadRequest(f"{where}: must be a text, the base64 of an image")
    uri = _URI.match(text[:200])
    if text[:5] == "data:" and uri is None:
        raise BadRequest(f"{where}: a data URI must say ;base64, before the data")
    start, end = uri.end() if uri else 0, len(text.rstrip("=" + _BLANKS))
    parts, rest = [], b""
    try:
        for at in range(start, end, STEP):
            piece = text[at : min(at + STEP, end)].encode("ascii")
            piece = rest + piece.translate(_ALPHABET, _BLANKS.encode())
            if b"=" in piece:
                raise ValueError("Discontinuous padding not allowed")
            whole = len(piece) - len(piece) % 4
            parts.append(_strictly(piece[:whole]))
            rest = piece[whole:]
        parts.append(_strictly(rest + b"=" * (-len(rest) % 4)))
    except ValueError as error:
        raise BadRequest(f"{where}: is not base64: {str(error)[:100]}") from None
    return b"".join(parts)


def _strictly(piece: bytes) -> bytes:
    return binascii.a2b_base64(piece, strict_mode=True)
