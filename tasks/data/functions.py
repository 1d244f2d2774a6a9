"""Applies column functions, parsed by :mod:`tasks.spec.expressions`, to columns of the metadata."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tasks.contract import BadConfig, BadInput
from tasks.data.names import RESERVED
from tasks.data.spellings import normalised
from tasks.data.tables import column, quoted
from tasks.spec.data import Transform
from tasks.spec.expressions import FunctionCall, parse_function
from tasks.spec.syntax import is_number

if TYPE_CHECKING:
    import pandas as pd


def apply_transform(table: "pd.DataFrame", transform: Transform) -> list[str]:
    """Apply a transform to a table, in place. Blanks stay blank, except with ``fill``.

    Parameters
    ----------
    table : DataFrame
        The metadata.
    transform : Transform
        Column, function, and the column to be written.

    Returns
    -------
    list of str
        Warnings: values that could not be turned into numbers, values that fell outside all groups,
        values that were merged.

    Raises
    ------
    BadConfig
        The column to be written is one of the stages' own.
    BadInput
        There is no such column, or the function does not fit its values.
    """
    try:
        call = parse_function(transform.function)
    except ValueError as error:
        raise BadConfig(str(error)) from None
    name = f"transform {transform.function} of {transform.column}"
    written = transform.into or transform.column
    if written in RESERVED:
        # image_id is a path, image_status and split_side decide what is trained on
        raise BadConfig(f"{name}: {written!r} is kept by the stages; write into another column")
    values = column(table, transform.column, name)
    warnings: list[str] = []
    if call.name == "merge_rare":
        from tasks.data.rare import merge_rare

        table[written] = merge_rare(table, values, call, name, warnings)
    else:
        table[written] = _FUNCTIONS[call.name](values, call, name, warnings)
    return warnings


def numbers(values: "pd.Series") -> tuple["pd.Series", "pd.Series"]:
    """Return values as floats, and a mask of those that are neither blank nor a number."""
    import pandas as pd

    parsed = pd.to_numeric(values, errors="coerce").astype("float64")
    # 'inf' would be a number to pandas, but no bin or comparison means it
    parsed = parsed.where(parsed.abs() != float("inf"))
    return parsed, parsed.isna() & values.notna()


def as_text(values: "pd.Series") -> "pd.Series":
    """Return values as texts; whole numbers without a decimal point, blanks as NA."""
    import pandas as pd

    if isinstance(values.dtype, pd.StringDtype):
        return values
    if pd.api.types.is_float_dtype(values.dtype):
        return values.map(number_text, na_action="ignore").astype("str")
    return values.astype("str").where(values.notna())


def number_text(value: float) -> str:
    """Return a number as text, whole: ``7`` for 7.0, never ``1.23457e+06``, which names two."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(float(value))


def replace_pattern(values: "pd.Series", pattern: str, replacement: str, name: str) -> "pd.Series":
    """Replace every match of a regular expression, in linear time (RE2)."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        result = pc.replace_substring_regex(
            pa.array(as_text(values), pa.large_string(), from_pandas=True),
            pattern=pattern,
            replacement=replacement,
        )
    except pa.ArrowInvalid as error:
        raise BadInput(f"{name}: {_first_line(error)}") from None
    return pd.Series(result.to_pandas(), index=values.index, dtype="str")


def match_pattern(
    values: "pd.Series", pattern: str, name: str, *, case: bool = True
) -> "pd.Series":
    """Tell where a regular expression matches, in linear time (RE2); blanks do not match."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        found = pc.match_substring_regex(
            pa.array(as_text(values), pa.large_string(), from_pandas=True),
            pattern=pattern,
            ignore_case=not case,
        )
    except pa.ArrowInvalid as error:
        raise BadInput(f"{name}: {_first_line(error)}") from None
    filled = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
    return pd.Series(filled, index=values.index, dtype="bool")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def _replace(values: Any, call: FunctionCall, name: str, warnings: list[str]) -> Any:
    return as_text(values).str.replace(call.args[0], call.args[1], regex=False)


def _regex(values: Any, call: FunctionCall, name: str, warnings: list[str]) -> Any:
    return replace_pattern(values, call.args[0], call.args[1], name)


def _map(values: Any, call: FunctionCall, name: str, warnings: list[str]) -> Any:
    import pandas as pd

    mapping, default = call.args[0], call.option("default")
    known = {_as_key(key): value for key, value in mapping.items()}
    has_default = "default" in (call.kwargs or {})

    def change(value: str) -> Any:
        return known.get(value, default if has_default else value)

    mapped = as_text(values).map(change, na_action="ignore")
    results = [*mapping.values(), *([default] if has_default else [])]
    if has_default and all(is_number(v) for v in results if v is not None):
        return pd.to_numeric(mapped).astype("float64")
    return mapped.map(_as_key, na_action="ignore").astype("str").where(mapped.notna())


def _lower(values: Any, call: FunctionCall, name: str, warnings: list[str]) -> Any:
    return as_text(values).str.lower()


def _upper(values: Any, call: FunctionCall, name: str, warnings: list[str]) -> Any:
    return as_text(values).str.upper()


def _strip(values: Any, call: FunctionCall, name: str, warnings: list[str]) -> Any:
    return as_text(values).str.strip()


def _normalise(values: Any, call: FunctionCall, name: str, warnings: list[str]) -> Any:
    return as_text(values).map(normalised, na_action="ignore").astype("str")


def _to_number(values: Any, call: FunctionCall, name: str, warnings: list[str]) -> Any:
    parsed, wrong = numbers(values)
    _warn_of_non_numbers(values, wrong, name, warnings)
    return parsed


def _fill(values: Any, call: FunctionCall, name: str, warnings: list[str]) -> Any:
    import pandas as pd

    value = call.args[0]
    if pd.api.types.is_numeric_dtype(values.dtype):
        if not is_number(value):
            raise BadInput(f"{name}: the column holds numbers; fill it with a number")
        return values.fillna(value)
    return as_text(values).fillna(_as_key(value))


def _bin(values: Any, call: FunctionCall, name: str, warnings: list[str]) -> Any:
    """Left-closed groups; with as many labels as edges, the last group is open above."""
    import pandas as pd

    parsed, wrong = numbers(values)
    _warn_of_non_numbers(values, wrong, name, warnings)
    edges = [float(edge) for edge in call.args[0]]
    labels = call.option("labels")
    if labels is None:
        labels = [f"{number_text(low)} to {number_text(high)}" for low, high in pairwise(edges)]
        labels.append(f"{number_text(edges[-1])} and over")
    if len(labels) == len(edges):
        edges.append(float("inf"))
    binned = pd.cut(parsed, edges, right=False, labels=labels)
    outside = binned.isna() & parsed.notna()
    if outside.any():
        examples = ", ".join(number_text(value) for value in parsed[outside].unique()[:5])
        warnings.append(
            f"{name}: {int(outside.sum())} values fall outside {call.args[0]} and are left blank: "
            f"{examples}"
        )
    return binned.astype("str").where(binned.notna())


def _warn_of_non_numbers(values: Any, wrong: Any, name: str, warnings: list[str]) -> None:
    if wrong.any():
        examples = ", ".join(quoted(value) for value in values[wrong].unique()[:5])
        warnings.append(f"{name}: {int(wrong.sum())} values are no numbers, left blank: {examples}")


def _as_key(value: Any) -> str:
    return number_text(value) if is_number(value) else str(value)


_FUNCTIONS: dict[str, Callable[[Any, FunctionCall, str, list[str]], Any]] = {
    "replace": _replace,
    "regex": _regex,
    "map": _map,
    "lower": _lower,
    "upper": _upper,
    "strip": _strip,
    "normalise": _normalise,
    "to_number": _to_number,
    "fill": _fill,
    "bin": _bin,
}
