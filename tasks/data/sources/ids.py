"""Ids of an annotation file, which one tool writes as numbers and the next as texts."""

from typing import Generic, TypeVar

Value = TypeVar("Value")

EXAMPLES = 5


class Ids(Generic[Value]):
    """Values by id. ``1`` and ``"1"`` are told apart where a file has both, else not.

    Attributes
    ----------
    otherwise : int
        How often a value was found under an id of the other kind.
    example : str
        The first of them.
    """

    def __init__(self) -> None:
        self.otherwise = 0
        self.example = ""
        self._values: dict[int | str, Value] = {}
        self._by_text: dict[str, list[int | str]] = {}

    def add(self, key: int | str, value: Value) -> None:
        """Keep a value under its id."""
        if key not in self._values:
            self._by_text.setdefault(_as_text(key), []).append(key)
        self._values[key] = value

    def get(self, key: int | str) -> Value | None:
        """Return the value of exactly this id."""
        return self._values.get(key)

    def find(self, key: int | str) -> Value | None:
        """Return the value of an id, or of the only one that reads the same."""
        if key in self._values:
            return self._values[key]
        alike = self._by_text.get(_as_text(key), [])
        if len(alike) != 1:
            return None
        self.otherwise += 1
        self.example = self.example or f"{key!r} for {alike[0]!r}"
        return self._values[alike[0]]

    def key(self, key: int | str) -> str:
        """Return the one form under which something else may be kept for an id."""
        alike = self._by_text.get(_as_text(key), [])
        return repr(key if key in self._values or len(alike) != 1 else alike[0])

    def values(self) -> list[Value]:
        """Return all values, in the order in which they came."""
        return list(self._values.values())

    def examples(self) -> str:
        """Name the first ids, for a message."""
        named = ", ".join(repr(key) for key in list(self._values)[:EXAMPLES])
        return named + (", ..." if len(self._values) > EXAMPLES else "") or "none"


def _as_text(key: int | str) -> str:
    text = str(key).strip()
    # a padded number, as files are named
    return text.lstrip("0") or "0" if text.isdecimal() else text
