"""Turns the typed columns of a Parquet table into the texts that a source's rows consist of."""

import json
from collections.abc import Callable
from typing import Any

from tasks.data.functions import number_text


def as_texts(column: Any) -> list[str | None]:
    """Return a column as texts.

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
        Of any type that :func:`is_text` admits.

    Returns
    -------
    list of str or None
        Whole numbers without a decimal point, dates as ISO 8601, lists and structs as JSON; None
        for nulls, for empty texts and for what is no number.
    """
    convert = _converter(column.type)
    return [None if value is None else convert(value) or None for value in column.to_pylist()]


def is_text(kind: Any) -> bool:
    """Tell whether a type can be shown as text; bytes, alone or inside a list, cannot."""
    import pyarrow.types as types

    if _is_bytes(kind):
        return False
    if types.is_dictionary(kind):
        return is_text(kind.value_type)
    return all(is_text(kind.field(number).type) for number in range(kind.num_fields))


def _is_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _converter(kind: Any) -> Callable[[Any], str]:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_float32(kind) or types.is_float16(kind):
        return _single
    if types.is_floating(kind):
        return _double
    if types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind):
        return lambda value: str(value.isoformat())
    if kind.num_fields:
        return lambda value: json.dumps(value, ensure_ascii=False, default=str)
    return str


def _double(value: float) -> str:
    # a float that is no number is a blank
    return number_text(value) if value == value else ""


def _single(value: float) -> str:
    import numpy as np

    # the shortest text that gives the same number of 32 bits: 0.1, not 0.10000000149011612
    return _double(float(str(np.float32(value))))
