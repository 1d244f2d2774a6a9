"""Decides which rows are kept together: those of one group, and groups that share an image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.data.group_sizes import large_groups
from tasks.data.spellings import spelling_problem
from tasks.data.split import Grouping, join_groups
from tasks.data.tables import column
from tasks.data.trained_on import group_values, own_groups
from tasks.spec.data import Split

if TYPE_CHECKING:
    import pandas as pd


def group_rows(
    table: "pd.DataFrame",
    everything: "pd.DataFrame",
    families: Sequence[str | None],
    split: Split,
    warnings: list[str],
) -> Grouping:
    """Return the group of each row.

    Parameters
    ----------
    table : DataFrame
        The rows with a usable image and a label.
    everything : DataFrame
        All rows, those that name the file of an earlier one too: the file belongs to their groups
        as well.
    families : sequence of str or None
        Near duplicates among the rows of ``table``.
    split : Split
        As the pipeline says.
    warnings : list of str
        Takes what is odd about the groups.
    """
    if split.group is not None:
        _check(table, split, split.group, warnings)
    groups, contents = list(own_groups(table, split)), list(table["image_sha256"])
    joined = list(families)
    if split.group is not None:
        for group, content in _of_repeated(table, everything, split):
            groups.append(group)
            contents.append(content)
            joined.append(None)
        same = join_groups(groups, contents)
        nearly = join_groups(same.keys, joined)
        for what, grouping in ("the same image", same), ("nearly the same image", nearly):
            if grouping.joined:
                names = next(names for names in grouping.members.values() if len(names) > 1)
                warnings.append(
                    f"{grouping.joined} times {what} is filed under several values of "
                    f"{split.group!r}, such as {', '.join(names[:5])}; they are kept on one side"
                )
    found = join_groups(groups, contents, joined)
    return Grouping(keys=found.keys[: len(table)], members=found.members)


def _check(table: "pd.DataFrame", split: Split, name: str, warnings: list[str]) -> None:
    column(table, name, "split.group")
    values = group_values(table, split)
    warnings += large_groups(values, name)
    problem = spelling_problem(values, name)
    warnings += [f"split.group: {problem}"] if problem else []
    blank = int(values.isna().sum())
    if blank:
        warnings.append(f"{blank} images have a blank {name!r}; each is a group of its own")


def _of_repeated(
    table: "pd.DataFrame", everything: "pd.DataFrame", split: Split
) -> list[tuple[str, str]]:
    """Return group and content of the rows that name the file of an earlier row."""
    again = everything[everything["image_status"] == "repeated"]
    again = again[again["duplicate_of"].isin(table["image_id"])]
    again = again[group_values(again, split).notna()]
    content = dict(zip(table["image_id"], table["image_sha256"], strict=True))
    files = (content[name] for name in again["duplicate_of"])
    return list(zip(own_groups(again, split), files, strict=True))
