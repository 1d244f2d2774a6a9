"""Reads annotation files that nobody vouches for."""

import json
import math
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tasks.contract import BadInput
from tasks.data.file_kinds import kind_of_file
from tasks.data.sources.foreign_exports import of_list, of_object

MAX_BYTES = 1 << 30
"""Largest annotation file that is read."""

_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a truth value",
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Return a JSON object.

    Parameters
    ----------
    path : Path
        The file.
    without : collection of str
        Keys that are dropped as soon as they are read, at any depth: outlines take ten times the
        memory of all else.

    Raises
    ------
    BadInput
        It is not JSON, no object, too large, or gives a key twice.
    """

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"key {twice[:80]!r} is given twice in one object")
        for name in without:
            found.pop(name, None)
        return found

    size = path.stat().st_size
    if size > MAX_BYTES:
        raise BadInput(f"{path.name}: has {size} bytes; {MAX_BYTES} are allowed")
    try:
        content = path.read_bytes()
        text = content.decode(json.detect_encoding(content))
        document = json.loads(text, object_pairs_hook=collect, parse_constant=_no_number)
        if _HALF_A_PAIR.search(text):
            # half of a surrogate pair is no character: neither a file nor a table can hold it
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise BadInput(f"{path.name}: is nested too deeply to be an annotation file") from None
    except ValueError as error:
        kind = kind_of_file(path)
        if kind not in (None, "JSON"):
            raise BadInput(f"{path.name}: is no annotation file but {kind}") from None
        raise BadInput(f"{path.name}: is no JSON that can be read: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise BadInput(
            f"{path.name}: holds {_kind(document)} where an object is expected{of_list(document)}"
        )
    foreign = of_object(document)
    if foreign:
        raise BadInput(f"{path.name}: is of another format{foreign}")
    return document


def expect(value: Any, kind: type, where: str) -> Any:
    """Return a value of the kind expected.

    Raises
    ------
    BadInput
        It is of another; ``where`` names file and place.
    """
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise BadInput(f"{where}: is {_kind(value)}, not {_NAMES[kind]}")
    return value


def number(value: Any, where: str) -> float:
    """Return a finite number; some tools write numbers as texts.

    Raises
    ------
    BadInput
        It is none.
    """
    found = as_number(value)
    if found is not None:
        return found
    raise BadInput(f"{where}: {str(value)[:60]!r} is no number")


def as_number(value: Any) -> float | None:
    """Return a finite number, also of a text, or None."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain and not (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return _NAMES.get(type(value), "a number")
