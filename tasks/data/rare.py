"""Merges the values of a column that are too rare to be learned."""

from typing import TYPE_CHECKING

from tasks.data.functions import as_text
from tasks.data.predicates import rows_where
from tasks.data.tables import column, quoted
from tasks.spec.expressions import FunctionCall

if TYPE_CHECKING:
    import pandas as pd


def merge_rare(
    table: "pd.DataFrame",
    values: "pd.Series",
    call: FunctionCall,
    name: str,
    warnings: list[str],
) -> "pd.Series":
    """Return the column with one name for all values that occur too rarely.

    Counted are the rows whose image can be used, and of them those that ``where`` admits: what the
    filters will take out later can be left out of the count. With ``per``, different values of that
    column are counted (patients) rather than rows; blanks count one each.

    Parameters
    ----------
    table : DataFrame
        The metadata.
    values : Series
        The column.
    call : FunctionCall
        ``merge_rare(least, into=..., per=..., where=...)``.
    name : str
        For messages.
    warnings : list of str
        Gets one that says which values were merged, with their counts.
    """
    texts = as_text(values)
    counted = texts.notna()
    if "image_status" in table.columns:
        counted &= table["image_status"] == "ok"
    where, per = call.option("where"), call.option("per")
    if where is not None:
        counted &= rows_where(table, where)
    units = texts.index.astype("str").to_series(index=texts.index).radd("row ")
    if per is not None:
        given = as_text(column(table, per, name))
        units = given.where(given.notna(), units)
    counts = units[counted].groupby(texts[counted]).nunique()
    everything = texts.dropna().unique()
    counts = counts.reindex(everything, fill_value=0).sort_values(ascending=False, kind="stable")
    least, into = call.args[0], call.option("into")
    rare = counts[(counts < least) & (counts.index != into)]
    if len(rare):
        examples = ", ".join(f"{quoted(value)} ({count})" for value, count in rare.head(8).items())
        more = f" and {len(rare) - 8} more" if len(rare) > 8 else ""
        warnings.append(
            f"{name}: {len(rare)} values with fewer than {least} {per or 'rows'} are merged into "
            f"{into!r} ({int(texts.isin(rare.index).sum())} rows): {examples}{more}"
        )
    return texts.mask(texts.isin(rare.index), into)
