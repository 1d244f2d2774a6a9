"""The features of examples as columns: which there are, and how their values read as text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tasks.data.sources.tf_example import Values, shortest, value_text

Kind = Literal["value", "class", "truth"]

UNLABELLED = -1
"""Class that TensorFlow Datasets gives to examples whose class is not told."""


@dataclass(frozen=True)
class Column:
    """A feature that becomes a column.

    Attributes
    ----------
    name : str
        Of the feature, and of the column.
    kind : str
        Whether its numbers are values, classes, or true and false.
    names : list of str
        Of the classes, by number; empty when they are not told.
    """

    name: str
    kind: Kind = "value"
    names: Sequence[str] = field(default=())

    def text(self, values: Values) -> str | None:
        """Return the feature's values as text: one as it is, several as JSON, none as None.

        Raises
        ------
        ValueError
            A value is no text, or a class without a name.
        """
        if len(values) == 1:
            return self._shown(values[0]) or None
        if not values:
            return None
        if self.kind == "value":
            numbers = [shortest(value) for value in values if not isinstance(value, bytes)]
            if numbers:
                return json.dumps(numbers)
        return json.dumps([self._shown(value) for value in values], ensure_ascii=False)

    def _shown(self, value: bytes | float | int) -> str:
        if self.kind == "truth":
            return str(bool(value))
        if self.kind == "class" and self.names:
            return self._class(value)
        return value_text(value)

    def _class(self, value: bytes | float | int) -> str:
        if value == UNLABELLED:
            return ""
        if not isinstance(value, int) or not 0 <= value < len(self.names):
            raise ValueError(f"class {value!r} has no name; there are {len(self.names)}")
        return self.names[value]


def columns_of(example: Mapping[str, Values], *, without: str) -> tuple[list[Column], list[str]]:
    """Return the columns that an example's features make, and the features that are no text.

    Parameters
    ----------
    example : mapping of str to values
        The first one.
    without : str
        Feature of the image.
    """
    columns, left_out = [], []
    for name in sorted(example):
        column = Column(name)
        try:
            column.text(example[name])
        except ValueError:
            left_out.append(name)
            continue
        if name != without:
            columns.append(column)
    return columns, [name for name in left_out if name != without]
