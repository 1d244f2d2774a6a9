"""What column functions and predicates share: parsing within bounds, literals, refusals."""

import ast
import re
import warnings
from typing import Any, NoReturn

MAX_CHARACTERS, MAX_NODES, MAX_DEPTH = 20_000, 6_000, 60
MAX_PATTERN = 500

_NO_BACKTRACKING = re.compile(r"\(\?(?:[=!]|<[=!]|P=|>|\()|(?<!\\)(?:\\\\)*\\[1-9]|(?<!\\)[*+?}]\+")


def parse_expression(text: str, what: str) -> ast.Expression:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{what} is empty")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"{what} {shortened(text)}: has {len(text)} characters, {MAX_CHARACTERS} are allowed"
        )
    try:
        with warnings.catch_warnings():
            # '\.' is no Python escape, yet it is what people write in a pattern
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = "nested too deeply"
        if isinstance(error, SyntaxError):
            reason = error.msg
        elif isinstance(error, ValueError):
            reason = "it holds characters that are no text"
        raise ValueError(f"{what} {shortened(text)}: cannot be read: {reason}") from None
    _check_size(text, tree, what)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            _check_characters(text, node.value, what)
    return tree


def _check_characters(text: str, value: str, what: str) -> None:
    """Refuse half of a surrogate pair, which no column can hold; an escape writes it in ASCII."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        found = f"\\u{ord(value[error.start]):04x}"
        raise ValueError(
            f"{what} {shortened(text)}: {found} is half of a surrogate pair and no character"
        ) from None


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
            f"{what} {shortened(text)}: too large; {MAX_NODES} parts and {MAX_DEPTH} levels are "
            "allowed"
        )


def literal_value(text: str, node: ast.expr) -> Any:
    """Return the value of a text, number, True, False, None, or a list, tuple or dict of them."""
    if isinstance(node, ast.Constant) and (node.value is None or is_scalar(node.value)):
        if isinstance(node.value, int | float) and not abs(node.value) <= 10**15:
            refuse(text, node, "is too large a number")
        return node.value
    if (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Constant)
        and isinstance(node.operand.value, int | float)
    ):
        return -literal_value(text, node.operand)
    if isinstance(node, ast.List | ast.Tuple):
        values = [literal_value(text, element) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [literal_value(text, key) for key in node.keys if key is not None]
        if all(map(is_scalar, keys)):
            values = [literal_value(text, value) for value in node.values]
            return dict(zip(keys, values, strict=True))
    return refuse(text, node, "is not a plain value: a text, a number, or a list or dict of them")


def is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def pattern_problem(pattern: Any) -> str | None:
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


def refuse(text: str, node: ast.AST, why: str) -> NoReturn:
    try:
        part = ast.get_source_segment(text.strip(), node) or type(node).__name__
    except (ValueError, IndexError):
        part = type(node).__name__
    raise ValueError(f"{shortened(text)}: {shortened(part)} {why}")


def shortened(text: str) -> str:
    line = " ".join(str(text).split())
    return repr(line if len(line) <= 120 else f"{line[:117]}...")
