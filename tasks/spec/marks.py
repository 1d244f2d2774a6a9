"""Marks of fields that whoever triggers a run may not set to whatever they like.

A field that is marked keeps the pipeline file's value, or takes one that the mark allows. What is
in the file is its owner's, and is never questioned.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Code:
    """A value that is imported, executed, or names a secret: it comes from the pipeline file only.

    Attributes
    ----------
    unless : str
        Pattern of the values that are neither; none by default.
    """

    unless: str = r"(?!)"

    def harmless(self, value: Any) -> bool:
        """Return whether a value is neither code nor a secret's name."""
        return isinstance(value, str) and re.fullmatch(self.unless, value) is not None


@dataclass(frozen=True)
class Address:
    """A path or a URI: it must lie below a prefix that the installation allows.

    Attributes
    ----------
    words : tuple of str
        Values that are no address.
    """

    words: tuple[str, ...] = ()


Mark = Code | Address


def mark_of(field: FieldInfo) -> Mark | None:
    """Return the mark of a field; None when anybody may set it."""
    pending: list[Any] = [field.annotation, *field.metadata]
    while pending:
        found = pending.pop()
        if isinstance(found, Code | Address):
            return found
        pending += [*getattr(found, "__args__", ()), *getattr(found, "__metadata__", ())]
    return None


def marked_fields(section: BaseModel, path: str = "") -> Iterator[tuple[str, Mark, Any]]:
    """Yield the dotted name, mark and value of every marked field, however deep it lies.

    Parameters
    ----------
    section : BaseModel
        A section of the pipeline file, or the whole of it.
    path : str
        What goes before the names.
    """
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), f"{path}{field.alias or name}"
        mark = mark_of(field)
        if mark is not None:
            yield key, mark, value
            continue
        inner = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, dict):
            inner = list(value.values())
        for number, each in enumerate(inner):
            if isinstance(each, BaseModel):
                yield from marked_fields(each, f"{key}." if each is value else f"{key}.{number}.")
