"""The grammar of column functions and row predicates: parsed with ``ast``, never executed.

A *column function* is one call with literal arguments::

    replace('/', '_')                       lower()  upper()  strip()
    map({'M': 'male'}, default='unknown')   to_number()
    regex('-day[0-9]+$', '')                fill('unknown')
    bin([0, 40, 60], labels=['young', 'middle', 'old'])

A *predicate* is a condition on the rows of ``metadata``, in the spelling of pandas::

    ~metadata.filename.str.contains('.gz')
    metadata.finding != 'todo' and metadata['age'].between(18, 99)

Text patterns are regular expressions, as in pandas: the dot of ``'.gz'`` stands for any character
(``regex=False`` takes it literally). They run on an engine without backtracking (RE2), so that no
pattern takes exponential time; look-around and back-references are therefore refused. A blank cell
is unequal to everything and satisfies no other test, so ``!=`` and ``~`` of a test hold for it.
"""

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NoReturn

MAX_CHARACTERS, MAX_NODES, MAX_DEPTH = 20_000, 6_000, 60
MAX_PATTERN = 500

FUNCTIONS = {
    "replace": "replace('old', 'new')",
    "map": "map({'old': 'new', ...}, default='other')",
    "lower": "lower()",
    "upper": "upper()",
    "strip": "strip()",
    "regex": "regex('pattern', 'replacement')",
    "to_number": "to_number()",
    "fill": "fill('value')",
    "bin": "bin([0, 40, 60], labels=['young', 'middle', 'old'])",
}
"""Column functions and how each is called."""

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

_NO_BACKTRACKING = re.compile(r"\(\?(?:[=!]|<[=!]|P=|>|\()|(?<!\\)(?:\\\\)*\\[1-9]|(?<!\\)[*+?}]\+")


@dataclass(frozen=True)
class FunctionCall:
    """A parsed column function.

    Attributes
    ----------
    name : str
        One of :data:`FUNCTIONS`.
    args : tuple
        Positional arguments, plain Python values.
    kwargs : dict
        Keyword arguments, plain Python values.
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None

    def option(self, name: str) -> Any:
        """Return a keyword argument, None when it was left out."""
        return (self.kwargs or {}).get(name)


def check_function(text: str) -> None:
    """Raise ValueError unless the text is one call of a known column function."""
    parse_function(text)


def check_predicate(text: str) -> None:
    """Raise ValueError unless the text is a predicate over ``metadata``."""
    parse_predicate(text)


def parse_function(text: str) -> FunctionCall:
    """Parse a column function.

    Parameters
    ----------
    text : str
        Such as ``replace('/','_')``.

    Raises
    ------
    ValueError
        One line that names the text, the part that is wrong, and what is allowed.
    """
    call = _parse(text, "function").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        _refuse(text, call, f"is not one call of {', '.join(FUNCTIONS)}")
    name = call.func.id
    if name not in FUNCTIONS:
        _refuse(text, call.func, f"is not one of {', '.join(FUNCTIONS)}")
    args = tuple(_literal(text, argument) for argument in call.args)
    kwargs = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            _refuse(text, keyword.value, "is unpacked; write the arguments out")
        kwargs[keyword.arg] = _literal(text, keyword.value)
    problem = _ARGUMENT_CHECKS[name](args, kwargs)
    if problem:
        raise ValueError(f"function {_short(text)}: {problem}; write {FUNCTIONS[name]}")
    return FunctionCall(name=name, args=args, kwargs=kwargs)


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
    tree = _parse(text, "predicate")
    if _Grammar(text).kind(tree.body) != "condition":
        _refuse(text, tree.body, "is a value, not a condition: compare it or call a test on it")
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
                _refuse(self.text, node, "is too large a number")
            return "number"
        if isinstance(value, str):
            return "text"
        hint = "; use .isna() or .notna()" if value is None else ""
        return _refuse(self.text, node, f"is neither a text nor a number{hint}")

    def _column(self, node: ast.expr) -> Kind:
        name = column_of(node) or ""
        if isinstance(node, ast.Attribute) and name.startswith("_"):
            _refuse(self.text, node, "begins with an underscore; write metadata['name']")
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
        return _refuse(self.text, node, "uses an operator that is not one of + - * / % & |")

    def _compare(self, node: ast.Compare) -> Kind:
        operands = [node.left, *node.comparators]
        kinds = [self.kind(operand) for operand in operands]
        for operator in node.ops:
            if isinstance(operator, ast.In | ast.NotIn):
                _refuse(self.text, node, "uses 'in'; write metadata.column.isin([...])")
            if isinstance(operator, ast.Is | ast.IsNot):
                _refuse(self.text, node, "uses 'is'; write ==, .isna() or .notna()")
        for operand, kind in zip(operands, kinds, strict=True):
            if kind == "condition":
                _refuse(self.text, operand, "is a condition and cannot be compared")
        if "column" not in kinds:
            _refuse(self.text, node, "compares constants, so it does not depend on the rows")
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
            _refuse(self.text, node.func, f"is not one of the column methods {allowed}")
        if name == "isin":
            values = self._arguments(node, 1, {})[0]
            if not isinstance(values, list | tuple) or not all(map(_is_scalar, values)):
                _refuse(self.text, node, "wants a list of texts or numbers")
        elif name == "between":
            bounds = self._arguments(node, 2, {"inclusive": str})
            if not all(map(_is_scalar, bounds)):
                _refuse(self.text, node, "wants two texts or numbers")
            inclusive = _option(node, "inclusive")
            if inclusive not in (None, "both", "neither", "left", "right"):
                _refuse(self.text, node, "inclusive is one of 'both', 'neither', 'left', 'right'")
        else:
            self._arguments(node, 0, {})
        return "condition"

    def _text_method(self, node: ast.Call, name: str) -> Kind:
        if name not in TEXT_METHODS:
            _refuse(
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
            _refuse(self.text, node, "wants a text in quotes")
        if name in ("contains", "match", "fullmatch") and _option(node, "regex") is not False:
            problem = _pattern_problem(pattern)
            if problem:
                _refuse(self.text, node, problem)
        return "condition"

    def _arguments(self, node: ast.Call, count: int, options: dict[str, type]) -> list[Any]:
        if len(node.args) != count:
            _refuse(self.text, node, f"takes {count or 'no'} argument{'s' * (count != 1)}")
        for keyword in node.keywords:
            if keyword.arg not in options:
                allowed = ", ".join(options) or "none"
                _refuse(self.text, node, f"has no option {keyword.arg!r} (allowed: {allowed})")
            if not isinstance(_literal(self.text, keyword.value), options[keyword.arg]):
                wanted = "a text" if options[keyword.arg] is str else "True or False"
                _refuse(self.text, node, f"option {keyword.arg} is {wanted}")
        return [_literal(self.text, argument) for argument in node.args]

    def _condition(self, node: ast.expr) -> Kind:
        if self.kind(node) != "condition":
            _refuse(
                self.text,
                node,
                "is a value where a condition is needed; comparisons joined by & and | go in "
                "parentheses",
            )
        return "condition"

    def _number_like(self, node: ast.expr) -> Kind:
        kind = self.kind(node)
        if kind not in ("number", "column"):
            _refuse(self.text, node, "is neither a number nor a column")
        return kind

    def _column_like(self, node: ast.expr) -> None:
        if self.kind(node) != "column":
            _refuse(self.text, node, "is not a column of metadata")

    def _unknown(self, node: ast.expr) -> NoReturn:
        _refuse(
            self.text,
            node,
            "is not allowed; a predicate is made of metadata.column, metadata['column'], texts, "
            "numbers, comparisons, & | ~ and or not, + - * / %, and tests such as .isin([...])",
        )


def _parse(text: str, what: str) -> ast.Expression:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{what} is empty")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"{what} {_short(text)}: has {len(text)} characters, {MAX_CHARACTERS} are allowed"
        )
    try:
        with warnings.catch_warnings():
            # '\.' is no Python escape, yet it is what people write in a pattern
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "nested too deeply"
        raise ValueError(f"{what} {_short(text)}: cannot be read: {reason}") from None
    _check_size(text, tree, what)
    return tree


def _check_size(text: str, tree: ast.AST, what: str) -> None:
    """Bound depth and number of nodes before anything recurses into the tree."""
    nodes = 0
    level = [tree]
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level or nodes > MAX_NODES:
            break
    if level:
        raise ValueError(
            f"{what} {_short(text)}: too large; {MAX_NODES} parts and {MAX_DEPTH} levels are "
            "allowed"
        )


def _literal(text: str, node: ast.expr) -> Any:
    """Return the value of a text, number, True, False, None, or a list, tuple or dict of them."""
    if isinstance(node, ast.Constant) and (node.value is None or _is_scalar(node.value)):
        if isinstance(node.value, int) and abs(node.value) > 10**15:
            _refuse(text, node, "is too large a number")
        return node.value
    if (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Constant)
        and isinstance(node.operand.value, int | float)
    ):
        return -_literal(text, node.operand)
    if isinstance(node, ast.List | ast.Tuple):
        values = [_literal(text, element) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_literal(text, key) for key in node.keys if key is not None]
        if all(map(_is_scalar, keys)):
            values = [_literal(text, value) for value in node.values]
            return dict(zip(keys, values, strict=True))
    return _refuse(text, node, "is not a plain value: a text, a number, or a list or dict of them")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_table(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "metadata"


def _option(node: ast.Call, name: str) -> Any:
    for keyword in node.keywords:
        if keyword.arg == name:
            return ast.literal_eval(keyword.value)
    return None


def _pattern_problem(pattern: Any) -> str | None:
    if not isinstance(pattern, str):
        return "the pattern is not a text"
    if len(pattern) > MAX_PATTERN:
        return f"the pattern is longer than {MAX_PATTERN} characters"
    if _NO_BACKTRACKING.search(pattern):
        return f"pattern {pattern!r} uses look-around or a back-reference, which are not supported"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"pattern {pattern!r} is not a regular expression: {error}"
    return None


def _no_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    return "takes no arguments" if args or kwargs else None


def _two_texts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if kwargs or len(args) != 2 or not all(isinstance(arg, str) for arg in args):
        return "takes two texts"
    return "the text to be replaced is empty" if not args[0] else None


def _regex_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    return _two_texts(args, kwargs) or _pattern_problem(args[0])


def _map_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if (
        len(args) != 1
        or not isinstance(args[0], dict)
        or not args[0]
        or kwargs.keys() - {"default"}
    ):
        return "takes one mapping and default="
    values = [*args[0].values(), *kwargs.values()]
    if not all(value is None or _is_scalar(value) for value in values):
        return "maps to texts, numbers or None"
    return None


def _fill_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if kwargs or len(args) != 1 or not _is_scalar(args[0]):
        return "takes one text or number"
    return None


def _bin_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if len(args) != 1 or not isinstance(args[0], list) or kwargs.keys() - {"labels"}:
        return "takes one list of edges and labels="
    edges, labels = args[0], kwargs.get("labels")
    if len(edges) < 2 or not all(map(_is_number, edges)):
        return "needs two or more numbers as edges"
    if any(high <= low for low, high in pairwise(edges)):
        return "needs edges that rise"
    if labels is None:
        return None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return "labels is a list of texts"
    if len(set(labels)) != len(labels):
        return "labels are not all different"
    if len(labels) not in (len(edges) - 1, len(edges)):
        return (
            f"{len(edges)} edges make {len(edges)} groups (the last one open above) or "
            f"{len(edges) - 1} closed ones, but there are {len(labels)} labels"
        )
    return None


_ARGUMENT_CHECKS: dict[str, Callable[[tuple[Any, ...], dict[str, Any]], str | None]] = {
    "replace": _two_texts,
    "map": _map_arguments,
    "lower": _no_arguments,
    "upper": _no_arguments,
    "strip": _no_arguments,
    "regex": _regex_arguments,
    "to_number": _no_arguments,
    "fill": _fill_arguments,
    "bin": _bin_arguments,
}


def _refuse(text: str, node: ast.AST, why: str) -> NoReturn:
    try:
        part = ast.get_source_segment(text.strip(), node) or type(node).__name__
    except (ValueError, IndexError):
        part = type(node).__name__
    raise ValueError(f"{_short(text)}: {_short(part)} {why}")


def _short(text: str) -> str:
    line = " ".join(str(text).split())
    return repr(line if len(line) <= 120 else f"{line[:117]}...")
