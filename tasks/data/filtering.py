"""Applies the predicates of a pipeline one after the other, counting."""

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tasks.contract import BadInput
from tasks.data.predicates import columns_in, rows_where
from tasks.data.tables import quoted

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("tasks")


@dataclass(frozen=True)
class Step:
    """What a predicate did: rows before and after it."""

    predicate: str
    before: int
    after: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return asdict(self)


def apply_filters(
    table: "pd.DataFrame", predicates: list[str]
) -> tuple["pd.DataFrame", list[Step]]:
    """Keep the rows that satisfy every predicate.

    Parameters
    ----------
    table : DataFrame
        The metadata.
    predicates : list of str
        Applied in order.

    Raises
    ------
    BadInput
        A predicate leaves no row; names it and the commonest values of its columns.
    """
    steps: list[Step] = []
    for predicate in predicates:
        kept = table[rows_where(table, predicate)]
        steps.append(Step(predicate=predicate, before=len(table), after=len(kept)))
        log.info("filter: %s: %d rows before, %d after", predicate, len(table), len(kept))
        if kept.empty:
            raise BadInput(
                f"filter {predicate} leaves none of {len(table)} rows; "
                + "; ".join(_commonest(table, name) for name in columns_in(predicate)[:3])
            )
        table = kept
    return table, steps


def _commonest(table: "pd.DataFrame", name: str) -> str:
    counts = table[name].value_counts(dropna=False).head(5)
    values = ", ".join(f"{quoted(value)} ({count})" for value, count in counts.items())
    return f"{name} holds {values}"
