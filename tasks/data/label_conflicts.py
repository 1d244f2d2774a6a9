"""Finds files that several rows name under different labels."""

from typing import TYPE_CHECKING

from tasks.contract import BadInput
from tasks.data.functions import as_text
from tasks.data.tables import quoted
from tasks.spec.data import Label

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES = 5


def check_labels(table: "pd.DataFrame", kept: "pd.DataFrame", label: Label) -> list[str]:
    """Hold the files with different labels against ``label.max_conflicting``.

    Files of equal content are ``validate``'s to compare, once they are arranged.

    Parameters
    ----------
    table : DataFrame
        All rows, those that name the file of an earlier one too (``image_status`` repeated).
    kept : DataFrame
        The rows with a usable image and a label.
    label : Label
        Column and limit.

    Returns
    -------
    list of str
        Warnings.

    Raises
    ------
    BadInput
        More files than that have different labels.
    """
    again = table[(table["image_status"] == "repeated") & table[label.column].notna()]
    counted = again["duplicate_of"].isin(kept["image_id"])
    warnings = []
    if not counted.all():
        warnings.append(
            f"{int((~counted).sum())} rows name the file of an earlier row that was filtered out, "
            f"has no label or no usable image, and are left out with it, such as "
            f"{again.loc[~counted, 'image_id'].iloc[0][:120]}"
        )
    again = again[counted]
    if again.empty:
        return warnings
    warnings.append(f"{len(again)} rows name the file of an earlier row, whose label counts")
    first = as_text(kept.set_index("image_id")[label.column])
    found: dict[str, dict[str, str]] = {}
    for file, row, value in zip(
        again["duplicate_of"], again["image_id"], as_text(again[label.column]), strict=True
    ):
        found.setdefault(file, {first[file]: file}).setdefault(value, row)
    torn = [labels for labels in found.values() if len(labels) > 1]
    if not torn:
        return warnings
    share = len(torn) / len(kept)
    examples = "; ".join(
        " and ".join(f"{quoted(value)} ({name[:120]})" for value, name in list(labels.items())[:3])
        for labels in torn[:_EXAMPLES]
    )
    problem = (
        f"{len(torn)} of {len(kept)} images are there with different labels ({share:.1%}; "
        f"label.max_conflicting is {label.max_conflicting:.1%}): {examples}"
    )
    if share > label.max_conflicting:
        raise BadInput(f"{problem}; correct the table, filter the rows or raise the limit")
    return [*warnings, problem]
