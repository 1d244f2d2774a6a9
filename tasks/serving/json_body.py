"""The JSON of a request's body, whose values are counted before they are made."""

from typing import Any

import orjson  # type: ignore[import-not-found]

from tasks.serving.cycles import NO_SEARCH
from tasks.serving.limits import MAX_LISTS, MAX_NAMES, MAX_VALUES, MI
from tasks.serving.values import BadRequest

V1 = 'body must be {"instances": [{"b64": "<base64 of an image>"}, ...]}'
"""What a body of V1 must be, for messages."""


def parse_json(body: bytes | bytearray) -> Any:
    """Return the document of a body.

    Parameters
    ----------
    body : bytes
        JSON.

    Raises
    ------
    BadRequest
        It is no JSON, or holds more values than a request may.
    """
    if not body:
        raise BadRequest(f"body is empty; {V1}")
    _count(body)
    try:
        with NO_SEARCH:
            return orjson.loads(body)
    except ValueError as error:
        problem = str(error)[:120]
    # outside: the error of the parser holds the whole text
    raise BadRequest(f"body is not JSON: {problem}")


def _count(body: bytes | bytearray) -> None:
    """Count before anything is parsed: three bytes of text can become seventy in memory."""
    found = {b",": 0, b"[": 0, b"{": 0, b":": 0}
    # in steps, between which others have their turn
    for start in range(0, len(body), MI):
        for mark in found:
            found[mark] += body.count(mark, start, start + MI)
        for many, most, what in (
            (found[b","] + found[b"["] + found[b"{"], MAX_VALUES, "values"),
            (found[b"["], MAX_LISTS, "lists"),
            (found[b":"], MAX_NAMES, "names"),
        ):
            if many > most:
                raise BadRequest(f"body holds more than {most} {what}; send files, or fewer images")
