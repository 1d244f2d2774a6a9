"""Unpacks bodies that come as gzip or deflate, at a cost that what comes out bounds."""

import zlib
from collections.abc import Callable

from tasks.serving.limits import MI

MAX_MEMBERS = 16
"""Packed pieces behind one another in a body; each costs a start, and may hold nothing."""

_SLICE = 64 * 1024
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 47}

ENCODINGS = tuple(_WINDOWS)
"""Values of ``Content-Encoding`` that are unpacked."""


class NotPacked(ValueError):
    """A body is not what its encoding says; the text says how."""


class Unpacking:
    """Unpacks a body piece by piece: a few bytes may stand for gigabytes.

    Parameters
    ----------
    body : bytes
        As it came.
    encoding : str
        One of ``ENCODINGS``.
    take : callable
        Called with the bytes of every piece before it is kept; what it raises ends the work.
    """

    def __init__(
        self, body: bytes | bytearray, encoding: str, take: Callable[[int], object]
    ) -> None:
        self.whole = bytearray()
        """What has come out so far."""
        self._body, self._position = memoryview(body), 0
        self._window, self._take = _WINDOWS[encoding], take
        self._members, self._rest = 0, b""
        self._unpacker: zlib._Decompress | None = None

    def advance(self, until: int | None = None) -> bool:
        """Go on until the end, or until so many bytes have come out; return whether it is the end.

        Raises
        ------
        NotPacked
            The body is not what its encoding says, is cut off, or is of too many pieces.
        """
        while until is None or len(self.whole) < until:
            if self._unpacker is None:
                if self._position == len(self._body):
                    return True
                self._unpacker = self._next_member()
            self._step(self._unpacker)
        return False

    def _next_member(self) -> "zlib._Decompress":
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise NotPacked(f"body is packed in more than {MAX_MEMBERS} pieces; pack it as one")
        return zlib.decompressobj(self._window)

    def _step(self, unpacker: "zlib._Decompress") -> None:
        # slices: the unpacker copies what it has not used
        given = self._rest or self._body[self._position : self._position + _SLICE]
        try:
            part = unpacker.decompress(given, MI)
        except zlib.error:
            raise NotPacked("body is not what its Content-Encoding says") from None
        self._take(len(part))
        self.whole += part
        if not self._rest:
            self._position += len(given)
        self._rest = unpacker.unconsumed_tail
        if unpacker.eof:
            self._position -= len(unpacker.unused_data)
            self._rest, self._unpacker = b"", None
        elif not part and not self._rest and self._position == len(self._body):
            raise NotPacked("body ends before its Content-Encoding does")
