"""The grammar of column functions and row predicates: parsed with ``ast``, never executed.

A *column function* is one call with literal arguments::

    replace('/', '_')                       lower()  upper()  strip()  normalise()
    map({'M': 'male'}, default='unknown')   to_number()
    regex('-day[0-9]+$', '')                fill('unknown')
    bin([0, 40, 60], labels=['young', 'middle', 'old'])
    merge_rare(20, into='other', per='patientid', where="metadata.modality == 'X-ray'")

A *predicate* is a condition on the rows of ``metadata``, in the spelling of pandas::

    ~metadata.filename.str.contains('.gz')
    metadata.finding != 'todo' and metadata['age'].between(18, 99)

Text patterns are regular expressions, as in pandas: the dot of ``'.gz'`` stands for any character
(``regex=False`` takes it literally). They run on an engine without backtracking (RE2), so that no
pattern takes exponential time; look-around and back-references are therefore refused. A blank cell
is unequal to everything and satisfies no other test, so ``!=`` and ``~`` of a test hold for it.
"""

from tasks.spec.column_functions import FUNCTIONS, FunctionCall, parse_function
from tasks.spec.predicates import (
    COLUMN_METHODS,
    TEXT_METHODS,
    column_of,
    literal,
    parse_predicate,
)
from tasks.spec.syntax import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, MAX_PATTERN

__all__ = [
    "COLUMN_METHODS",
    "FUNCTIONS",
    "MAX_CHARACTERS",
    "MAX_DEPTH",
    "MAX_NODES",
    "MAX_PATTERN",
    "TEXT_METHODS",
    "FunctionCall",
    "check_function",
    "check_predicate",
    "column_of",
    "literal",
    "parse_function",
    "parse_predicate",
]


def check_function(text: str) -> None:
    """Raise ValueError unless the text is one call of a known column function."""
    parse_function(text)


def check_predicate(text: str) -> None:
    """Raise ValueError unless the text is a predicate over ``metadata``."""
    parse_predicate(text)
