"""Column functions: one call with literal arguments, checked before any row is read."""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tasks.spec.predicates import parse_predicate
from tasks.spec.syntax import (
    is_number,
    is_scalar,
    literal_value,
    parse_expression,
    pattern_problem,
    refuse,
    shortened,
)

FUNCTIONS = {
    "replace": "replace('old', 'new')",
    "map": "map({'old': 'new', ...}, default='other')",
    "lower": "lower()",
    "upper": "upper()",
    "strip": "strip()",
    "normalise": "normalise()",
    "regex": "regex('pattern', 'replacement')",
    "to_number": "to_number()",
    "fill": "fill('value')",
    "bin": "bin([0, 40, 60], labels=['young', 'middle', 'old'])",
    "merge_rare": "merge_rare(20, into='other', per='patientid', where='metadata.view == 1')",
}
"""Column functions and how each is called."""


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
    call = parse_expression(text, "function").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        refuse(text, call, f"is not one call of {', '.join(FUNCTIONS)}")
    name = call.func.id
    if name not in FUNCTIONS:
        refuse(text, call.func, f"is not one of {', '.join(FUNCTIONS)}")
    args = tuple(literal_value(text, argument) for argument in call.args)
    kwargs = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            refuse(text, keyword.value, "is unpacked; write the arguments out")
        kwargs[keyword.arg] = literal_value(text, keyword.value)
    problem = _ARGUMENT_CHECKS[name](args, kwargs)
    if problem:
        raise ValueError(f"function {shortened(text)}: {problem}; write {FUNCTIONS[name]}")
    return FunctionCall(name=name, args=args, kwargs=kwargs)


def _no_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    return "takes no arguments" if args or kwargs else None


def _two_texts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if kwargs or len(args) != 2 or not all(isinstance(arg, str) for arg in args):
        return "takes two texts"
    return "the text to be replaced is empty" if not args[0] else None


def _regex_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    return _two_texts(args, kwargs) or pattern_problem(args[0])


def _map_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if (
        len(args) != 1
        or not isinstance(args[0], dict)
        or not args[0]
        or kwargs.keys() - {"default"}
    ):
        return "takes one mapping and default="
    values = [*args[0].values(), *kwargs.values()]
    if not all(value is None or is_scalar(value) for value in values):
        return "maps to texts, numbers or None"
    return None


def _fill_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if kwargs or len(args) != 1 or not is_scalar(args[0]):
        return "takes one text or number"
    return None


def _bin_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if len(args) != 1 or not isinstance(args[0], list) or kwargs.keys() - {"labels"}:
        return "takes one list of edges and labels="
    edges, labels = args[0], kwargs.get("labels")
    if len(edges) < 2 or not all(map(is_number, edges)):
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


def _merge_rare_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if len(args) != 1 or "into" not in kwargs or kwargs.keys() - {"into", "per", "where"}:
        return "takes one number and into=, and if need be per= and where="
    if not isinstance(args[0], int) or isinstance(args[0], bool) or args[0] < 1:
        return "needs a whole number of at least 1"
    if not all(isinstance(value, str) and value for value in kwargs.values()):
        return "into, per and where are texts"
    if "where" in kwargs:
        parse_predicate(kwargs["where"])
    return None


_ARGUMENT_CHECKS: dict[str, Callable[[tuple[Any, ...], dict[str, Any]], str | None]] = {
    "replace": _two_texts,
    "map": _map_arguments,
    "lower": _no_arguments,
    "upper": _no_arguments,
    "strip": _no_arguments,
    "normalise": _no_arguments,
    "regex": _regex_arguments,
    "to_number": _no_arguments,
    "fill": _fill_arguments,
    "bin": _bin_arguments,
    "merge_rare": _merge_rare_arguments,
}
