"""The grammar of row predicates over ``metadata``."""

import ast
from collections.abc import Callable
from typing import Any, Literal, NoReturn

from tasks.spec.syntax import is_scalar, literal_value, parse_expression, pattern_problem, refuse

COLUMN_METHODS = ("isin", "isna", "isnull", "notna", "notnull", "between")
TEXT_METHODS = (
    "contains",
    "match",
    "fullmatch",
    "startswith",
    "endswith",
    "len",
    "lower",
    "upper",
    "strip",
)

Kind = Literal["condition", "column", "number", "text", "flag"]


def parse_predicate(text: str) -> ast.Expression:
    """Parse a predicate.

    Parameters
    ----------
    text : str
        Such as ``~metadata.filename.str.contains('.gz')``.

    Returns
    -------
    ast.Expression
        Holds only the nodes that the grammar admits, so an evaluator need not check again.

    Raises
    ------
    ValueError
        One line that names the text, the part that is wrong, and what is allowed.
    """
    tree = parse_expression(text, "predicate")
    if _Grammar(text).kind(tree.body) != "condition":
        refuse(text, tree.body, "is a value, not a condition: compare it or call a test on it")
    return tree


def column_of(node: ast.expr) -> str | None:
    """Return the column that ``metadata.name`` or ``metadata['name']`` names, or None."""
    if isinstance(node, ast.Attribute) and _is_table(node.value):
        return node.attr
    if (
        isinstance(node, ast.Subscript)
        and _is_table(node.value)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    ):
        return node.slice.value
    return None


def literal(node: ast.expr) -> Any:
    """Return the value of a node that the grammar has admitted as a literal."""
    return ast.literal_eval(node)


class _Grammar:
    """Decides what each part of a predicate is, and refuses whatever it does not know."""

    def __init__(self, text: str) -> None:
        self.text = text

    def kind(self, node: ast.expr) -> Kind:
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if column_of(node) is not None:
            return self._column(node)
        handlers: dict[type[ast.expr], Callable[[Any], Kind]] = {
            ast.BoolOp: self._bool_op,
            ast.UnaryOp: self._unary_op,
            ast.BinOp: self._bin_op,
            ast.Compare: self._compare,
            ast.Call: self._call,
        }
        handler = handlers.get(type(node))
        if handler is None:
            self._unknown(node)
        return handler(node)

    def _constant(self, node: ast.Constant) -> Kind:
        value = node.value
        if isinstance(value, bool):
            return "flag"
        if isinstance(value, int | float):
            if not -1e15 <= value <= 1e15:
                refuse(self.text, node, "is too large a number")
            return "number"
        if isinstance(value, str):
            return "text"
        hint = "; use .isna() or .notna()" if value is None else ""
        return refuse(self.text, node, f"is neither a text nor a number{hint}")

    def _column(self, node: ast.expr) -> Kind:
        name = column_of(node) or ""
        if isinstance(node, ast.Attribute) and name.startswith("_"):
            refuse(self.text, node, "begins with an underscore; write metadata['name']")
        return "column"

    def _bool_op(self, node: ast.BoolOp) -> Kind:
        for value in node.values:
            self._condition(value)
        return "condition"

    def _unary_op(self, node: ast.UnaryOp) -> Kind:
        if isinstance(node.op, ast.Not | ast.Invert):
            return self._condition(node.operand)
        return self._number_like(node.operand)

    def _bin_op(self, node: ast.BinOp) -> Kind:
        if isinstance(node.op, ast.BitAnd | ast.BitOr):
            self._condition(node.left)
            return self._condition(node.right)
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.Mod):
            kinds = {self._number_like(node.left), self._number_like(node.right)}
            return "column" if "column" in kinds else "number"
        return refuse(self.text, node, "uses an operator that is not one of + - * / % & |")

    def _compare(self, node: ast.Compare) -> Kind:
        operands = [node.left, *node.comparators]
        kinds = [self.kind(operand) for operand in operands]
        for operator in node.ops:
            if isinstance(operator, ast.In | ast.NotIn):
                refuse(self.text, node, "uses 'in'; write metadata.column.isin([...])")
            if isinstance(operator, ast.Is | ast.IsNot):
                refuse(self.text, node, "uses 'is'; write ==, .isna() or .notna()")
        for operand, kind in zip(operands, kinds, strict=True):
            if kind == "condition":
                refuse(self.text, operand, "is a condition and cannot be compared")
        if "column" not in kinds:
            refuse(self.text, node, "compares constants, so it does not depend on the rows")
        return "condition"

    def _call(self, node: ast.Call) -> Kind:
        function = node.func
        if not isinstance(function, ast.Attribute):
            self._unknown(function)
        if isinstance(function.value, ast.Attribute) and function.value.attr == "str":
            self._column_like(function.value.value)
            return self._text_method(node, function.attr)
        self._column_like(function.value)
        return self._column_method(node, function.attr)

    def _column_method(self, node: ast.Call, name: str) -> Kind:
        if name not in COLUMN_METHODS:
            allowed = ", ".join((*COLUMN_METHODS, *(f"str.{method}" for method in TEXT_METHODS)))
            refuse(self.text, node.func, f"is not one of the column methods {allowed}")
        if name == "isin":
            values = self._arguments(node, 1, {})[0]
            if not isinstance(values, list | tuple) or not all(map(is_scalar, values)):
                refuse(self.text, node, "wants a list of texts or numbers")
        elif name == "between":
            bounds = self._arguments(node, 2, {"inclusive": str})
            if not all(map(is_scalar, bounds)):
                refuse(self.text, node, "wants two texts or numbers")
            inclusive = _option(node, "inclusive")
            if inclusive not in (None, "both", "neither", "left", "right"):
                refuse(self.text, node, "inclusive is one of 'both', 'neither', 'left', 'right'")
        else:
            self._arguments(node, 0, {})
        return "condition"

    def _text_method(self, node: ast.Call, name: str) -> Kind:
        if name not in TEXT_METHODS:
            refuse(
                self.text, node.func, f"is not one of the text methods {', '.join(TEXT_METHODS)}"
            )
        if name in ("len", "lower", "upper", "strip"):
            self._arguments(node, 0, {})
            return "column"
        options: dict[str, type] = {"na": bool}
        if name in ("contains", "match", "fullmatch"):
            options["case"] = bool
        if name == "contains":
            options["regex"] = bool
        (pattern,) = self._arguments(node, 1, options)
        several = isinstance(pattern, tuple) and name in ("startswith", "endswith")
        parts = pattern if several else (pattern,)
        if not parts or not all(isinstance(part, str) for part in parts):
            refuse(self.text, node, "wants a text in quotes")
        if name in ("contains", "match", "fullmatch") and _option(node, "regex") is not False:
            problem = pattern_problem(pattern)
            if problem:
                refuse(self.text, node, problem)
        return "condition"

    def _arguments(self, node: ast.Call, count: int, options: dict[str, type]) -> list[Any]:
        if len(node.args) != count:
            refuse(self.text, node, f"takes {count or 'no'} argument{'s' * (count != 1)}")
        for keyword in node.keywords:
            if keyword.arg not in options:
                allowed = ", ".join(options) or "none"
                refuse(self.text, node, f"has no option {keyword.arg!r} (allowed: {allowed})")
            if not isinstance(literal_value(self.text, keyword.value), options[keyword.arg]):
                wanted = "a text" if options[keyword.arg] is str else "True or False"
                refuse(self.text, node, f"option {keyword.arg} is {wanted}")
        return [literal_value(self.text, argument) for argument in node.args]

    def _condition(self, node: ast.expr) -> Kind:
        if self.kind(node) != "condition":
            refuse(
                self.text,
                node,
                "is a value where a condition is needed; comparisons joined by & and | go in "
                "parentheses",
            )
        return "condition"

    def _number_like(self, node: ast.expr) -> Kind:
        kind = self.kind(node)
        if kind not in ("number", "column"):
            refuse(self.text, node, "is neither a number nor a column")
        return kind

    def _column_like(self, node: ast.expr) -> None:
        if self.kind(node) != "column":
            refuse(self.text, node, "is not a column of metadata")

    def _unknown(self, node: ast.expr) -> NoReturn:
        refuse(
            self.text,
            node,
            "is not allowed; a predicate is made of metadata.column, metadata['column'], texts, "
            "numbers, comparisons, & | ~ and or not, + - * / %, and tests such as .isin([...])",
        )


def _is_table(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "metadata"


def _option(node: ast.Call, name: str) -> Any:
    for keyword in node.keywords:
        if keyword.arg == name:
            return ast.literal_eval(keyword.value)
    return None
