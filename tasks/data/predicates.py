"""Evaluates row predicates, parsed by :mod:`tasks.spec.expressions`, on the metadata.

Only nodes that the grammar admits arrive here; each is met by a pandas operation, so no text of a
pipeline file is ever executed. A blank cell is unequal to everything and satisfies no other test.
"""

import ast
import operator
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.contract import BadConfig, BadInput
from tasks.data.functions import as_text, match_pattern, number_text, numbers
from tasks.data.tables import column, quoted
from tasks.spec.expressions import column_of, literal, parse_predicate

if TYPE_CHECKING:
    import pandas as pd

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


def rows_where(table: "pd.DataFrame", predicate: str) -> "pd.Series":
    """Return which rows a predicate holds for.

    Parameters
    ----------
    table : DataFrame
        The metadata.
    predicate : str
        Such as ``~metadata.filename.str.contains('.gz')``.

    Returns
    -------
    Series of bool
        One value a row of the table.

    Raises
    ------
    BadConfig
        The predicate is not one.
    BadInput
        It names a column that is not there, or compares texts with numbers.
    """
    try:
        tree = parse_predicate(predicate)
    except ValueError as error:
        raise BadConfig(str(error)) from None
    holds: pd.Series = _Evaluator(table, predicate).condition(tree.body)
    return holds


def columns_in(predicate: str) -> list[str]:
    """Return the columns that a predicate names."""
    nodes = ast.walk(parse_predicate(predicate))
    names = [column_of(node) for node in nodes if isinstance(node, ast.expr)]
    return sorted({name for name in names if name is not None})


class _Evaluator:
    def __init__(self, table: "pd.DataFrame", predicate: str) -> None:
        self.table = table
        self.name = f"filter {predicate}"

    def condition(self, node: ast.expr) -> Any:
        if isinstance(node, ast.BoolOp):
            combine = operator.and_ if isinstance(node.op, ast.And) else operator.or_
            result = self.condition(node.values[0])
            for value in node.values[1:]:
                result = combine(result, self.condition(value))
            return result
        if isinstance(node, ast.UnaryOp):
            return ~self.condition(node.operand)
        if isinstance(node, ast.BinOp):
            combine = operator.and_ if isinstance(node.op, ast.BitAnd) else operator.or_
            return combine(self.condition(node.left), self.condition(node.right))
        if isinstance(node, ast.Compare):
            return self._compare(node)
        assert isinstance(node, ast.Call)  # noqa: S101 - the grammar admits nothing else
        return self._test(node)

    def _value(self, node: ast.expr) -> Any:
        """Return a column as a Series, a constant as it is."""
        name = column_of(node)
        if name is not None:
            return column(self.table, name, self.name)
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.UnaryOp):
            value = self._number(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node)
        assert isinstance(node, ast.Call)  # noqa: S101
        assert isinstance(node.func, ast.Attribute)  # noqa: S101
        assert isinstance(node.func.value, ast.Attribute)  # noqa: S101
        text = as_text(self._value(node.func.value.value)).str
        result = getattr(text, _TEXT_VALUES[node.func.attr])()
        return result.astype("float64") if node.func.attr == "len" else result

    def _arithmetic(self, node: ast.BinOp) -> Any:
        left, right = self._number(node.left), self._number(node.right)
        try:
            return _ARITHMETIC[type(node.op)](left, right)
        except ZeroDivisionError:
            raise BadConfig(f"{self.name}: divides by zero") from None

    def _number(self, node: ast.expr) -> Any:
        return self._as_numbers(self._value(node))

    def _as_numbers(self, value: Any) -> Any:
        if isinstance(value, int | float):
            # whole numbers of Python grow without bound when multiplied
            return float(value)
        parsed, wrong = numbers(value)
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise BadInput(
                f"{self.name}: column {value.name!r} holds {quoted(value.iloc[row])} "
                f"(row {row + 1}), {int(wrong.sum())} values are no numbers; transform the column "
                "with to_number(), which leaves them blank"
            )
        return parsed

    def _compare(self, node: ast.Compare) -> Any:
        values = [self._value(operand) for operand in (node.left, *node.comparators)]
        result: Any = True
        for left, operation, right in zip(values, node.ops, values[1:], strict=False):
            result = self._compared(left, operation, right) & result
        return result

    def _compared(self, left: Any, operation: ast.cmpop, right: Any) -> Any:
        left, right = self._alike(left, right)
        result = _COMPARISONS[type(operation)](left, right)
        if isinstance(result, bool):
            return result
        # as in pandas, a blank is unequal to everything and neither smaller nor larger
        return result.fillna(isinstance(operation, ast.NotEq)).astype("bool")

    def _alike(self, left: Any, right: Any) -> tuple[Any, Any]:
        """Compare as numbers if either side is one, else as texts."""
        sides = (left, right)
        if any(isinstance(side, str | bool) for side in sides):
            return tuple(self._as_text(side) for side in sides)
        if any(isinstance(side, int | float) or _is_numeric(side) for side in sides):
            return self._as_numbers(left), self._as_numbers(right)
        return as_text(left), as_text(right)

    @staticmethod
    def _as_text(value: Any) -> Any:
        return str(value) if isinstance(value, str | int | float) else as_text(value)

    def _test(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Attribute)  # noqa: S101
        args = [literal(argument) for argument in node.args]
        options = {keyword.arg: literal(keyword.value) for keyword in node.keywords}
        owner, name = node.func.value, node.func.attr
        if isinstance(owner, ast.Attribute) and owner.attr == "str" and column_of(owner) is None:
            return self._text_test(self._value(owner.value), name, args[0], options)
        values = self._value(owner)
        if name in ("isna", "isnull"):
            return values.isna()
        if name in ("notna", "notnull"):
            return values.notna()
        if name == "isin":
            return self._isin(values, args[0])
        return self._between(values, args, options.get("inclusive") or "both")

    def _isin(self, values: Any, wanted: list[Any]) -> Any:
        if _is_numeric(values):
            return values.isin([float(v) for v in wanted if not isinstance(v, str)])
        texts = [number_text(v) if isinstance(v, float) else str(v) for v in wanted]
        return as_text(values).isin(texts)

    def _between(self, values: Any, bounds: list[Any], inclusive: str) -> Any:
        low, high = bounds
        from_low = ast.GtE() if inclusive in ("both", "left") else ast.Gt()
        to_high = ast.LtE() if inclusive in ("both", "right") else ast.Lt()
        return self._compared(values, from_low, low) & self._compared(values, to_high, high)

    def _text_test(
        self, values: Any, name: str, pattern: Any, options: dict[str | None, Any]
    ) -> Any:
        texts = as_text(values)
        if name in ("startswith", "endswith"):
            found = getattr(texts.str, name)(pattern)
        else:
            if options.get("regex", True) is False:
                pattern = re.escape(pattern)
            if name in ("match", "fullmatch"):
                pattern = f"^(?:{pattern})" + ("$" if name == "fullmatch" else "")
            found = match_pattern(texts, pattern, self.name, case=options.get("case", True))
        found = found.fillna(False).astype("bool")
        return found | values.isna() if options.get("na") is True else found


_TEXT_VALUES = {"len": "len", "lower": "lower", "upper": "upper", "strip": "strip"}


def _is_numeric(value: Any) -> bool:
    from pandas.api.types import is_numeric_dtype

    return hasattr(value, "dtype") and is_numeric_dtype(value.dtype)
