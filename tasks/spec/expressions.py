"""The grammar of column functions and row predicates. Parsed with ``ast``, never executed."""

import ast


def check_function(text: str) -> None:
    """Raise ValueError unless the text is one call of a known column function."""
    ast.parse(text, mode="eval")


def check_predicate(text: str) -> None:
    """Raise ValueError unless the text is a predicate over ``metadata``."""
    ast.parse(text, mode="eval")
