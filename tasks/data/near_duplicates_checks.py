"""What ``validate`` says about near duplicates, and which of them are worth a picture."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tasks.data.check import Check, Severity

if TYPE_CHECKING:
    import pandas as pd

FAMILY = "near_duplicate_family"

MOST_PAIRS = 12
"""Pairs in the picture."""


def check_near_duplicates(
    table: "pd.DataFrame", found: dict[str, Any], group: str | None
) -> Iterator[Check]:
    """Check the families of images that show nearly the same picture.

    Parameters
    ----------
    table : DataFrame
        ``images.parquet``.
    found : dict
        ``near_duplicates.json`` of ``arrange``.
    group : str or None
        ``split.group``.
    """
    looked_at, rows = int(found.get("looked_at", 0)), len(table)
    if found.get("problem"):
        yield Check("near duplicates", "warning", str(found["problem"]), {"looked_at": 0})
        return
    if not looked_at:
        message = "not looked for: split.near_duplicates is off, or all images are small"
        yield Check("near duplicates", "ok", message, {"looked_at": 0})
        return
    families = table[table[FAMILY].notna()]
    counts = {
        "looked_at": looked_at,
        "images": len(families),
        "families": families[FAMILY].nunique(),
        "several_groups": 0 if group is None else _torn(families, group)[FAMILY].nunique(),
    }
    if families.empty:
        yield Check("near duplicates", "ok", f"none among {looked_at} images", counts)
    else:
        message = (
            f"{counts['images']} of {rows} images ({counts['images'] / rows:.1%}) show nearly the "
            f"same picture as another, in {counts['families']} families"
        )
        if counts["several_groups"]:
            message += f", {counts['several_groups']} of which several values of {group!r} share"
        first = families[families[FAMILY] == families[FAMILY].min()]
        example = ", ".join(first["image_id"].head(3))
        severity: Severity = "warning" if counts["several_groups"] else "ok"
        yield Check("near duplicates", severity, f"{message}, such as {example}", counts)
    yield _torn_check(
        families,
        "split_side",
        name="nearly the same image on both sides of the split",
        sound="nearly the same image is never on both sides",
        torn="of nearly the same image are on both sides of the split",
    )
    yield _torn_check(
        families,
        "class_name",
        name="one label for nearly the same image",
        sound="nearly the same images have the same label",
        torn="of nearly the same image have different labels",
    )


def pairs_to_show(table: "pd.DataFrame", group: str | None) -> list[tuple[int, int]]:
    """Return rows of a few pairs of near duplicates: of different sides first, then labels, then
    groups.

    Parameters
    ----------
    table : DataFrame
        ``images.parquet``.
    group : str or None
        ``split.group``.

    Returns
    -------
    list of tuple of int
        Positions in the table, one pair a family.
    """
    ranked = []
    traits = ["split_side", "class_name", *([group] if group else [])]
    for number, (_, rows) in enumerate(table[table[FAMILY].notna()].groupby(FAMILY)):
        first = rows.iloc[0]
        # the member that differs from the first in what matters most
        unlike = rows[traits].ne(first[traits]).iloc[1:]
        order = unlike.sort_values(traits, ascending=False, kind="stable")
        ranked.append(
            (tuple(not bool(each) for each in order.iloc[0]), number, rows.index[0], order.index[0])
        )
    return [(int(one), int(other)) for _, _, one, other in sorted(ranked)[:MOST_PAIRS]]


def _torn(families: "pd.DataFrame", column: str) -> "pd.DataFrame":
    """Return the rows of families whose members differ in a column."""
    different = families.groupby(FAMILY)[column].nunique()
    return families[families[FAMILY].isin(different.index[different > 1])]


def _torn_check(
    families: "pd.DataFrame", column: str, *, name: str, sound: str, torn: str
) -> Check:
    rows = _torn(families, column)
    counts = {"families": int(rows[FAMILY].nunique()), "rows": len(rows)}
    if rows.empty:
        return Check(name, "ok", sound, counts)
    shown = rows[rows[FAMILY].isin(rows[FAMILY].unique()[:3])].drop_duplicates([FAMILY, column])
    examples = "; ".join(
        " and ".join(f"{i} ({v})" for i, v in zip(g["image_id"], g[column], strict=True))
        for _, g in shown.groupby(FAMILY)
    )
    return Check(name, "warning", f"{counts['families']} families {torn}: {examples}", counts)
