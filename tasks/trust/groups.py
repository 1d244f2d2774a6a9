"""Groups of a protected attribute: who is compared with whom, and what is counted in each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tasks.contract import BadInput
from tasks.spec import ProtectedAttribute
from tasks.spec.trust import GROUP_SEPARATOR

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    Counts = NDArray[np.int64]

BLANK = "(blank)"
"""Group of the rows that say nothing about the attribute; listed, never judged."""

MOST_NUMERIC_GROUPS = 20
"""Distinct numbers above which a column is a measurement rather than a list of groups."""

Role = Literal["privileged", "unprivileged", "not judged"]


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What became of each test row, as flags.

    Attributes
    ----------
    truth, predicted : (rows,) bool array
        Whether the favourable outcome is the true one, and the predicted one. Where it is
        "classified correctly", it is due to everybody: truth is true throughout.
    positive, found : (rows,) bool array or None
        Whether the row has the finding, and whether the model says so; None without a finding.
    correct : (rows,) bool array
        Whether the predicted class is the true one.
    """

    truth: "Flags"
    predicted: "Flags"
    positive: "Flags | None"
    found: "Flags | None"
    correct: "Flags"

    @classmethod
    def of(
        cls,
        *,
        true_index: "NDArray[np.int64]",
        predicted_index: "NDArray[np.int64]",
        favourable: int | None,
        positive: int | None,
    ) -> "Outcomes":
        """Derive the flags from class indices; ``favourable`` None means "classified correctly"."""
        import numpy as np

        correct = true_index == predicted_index
        by_class = favourable is not None
        return cls(
            truth=true_index == favourable if by_class else np.ones(len(correct), dtype=bool),
            predicted=predicted_index == favourable if by_class else correct,
            positive=None if positive is None else true_index == positive,
            found=None if positive is None else predicted_index == positive,
            correct=correct,
        )

    def cells(self) -> "Counts":
        """Return for each row the number of its cell, whose bits are :data:`BITS`."""
        import numpy as np

        flags = (self.truth, self.predicted, self.positive, self.found, self.correct)
        zero = np.zeros(len(self.correct), dtype=np.int64)
        for bit, flag in enumerate(flags):
            if flag is not None:
                zero += flag.astype(np.int64) << bit
        return zero


BITS = ("truth", "predicted", "positive", "found", "correct")
"""Flags of :class:`Outcomes`, in the order of the bits of a cell's number."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The test rows that share a value of the attribute.

    Attributes
    ----------
    name : str
    role : str
        Whether it is the reference, is compared with it, or is only listed.
    why : str
        Why it is not judged; empty when it is.
    rows : int
    cells : (32,) int array
        Rows in each cell of :meth:`Outcomes.cells`.
    """

    name: str
    role: Role
    why: str
    rows: int
    cells: "Counts"

    @property
    def judged(self) -> bool:
        """Whether it takes part in the metrics."""
        return self.role != "not judged"


def group_labels(column: "pd.Series[Any]") -> "pd.Series[str]":
    """Return each row's group as text; blanks become a group of their own.

    Raises
    ------
    BadInput
        The column holds numbers without end, such as ages in years.
    """
    import pandas as pd

    text = column.astype("string").str.strip()
    text = text.mask(text == "", pd.NA)
    values = text.dropna().unique()
    if len(values) > MOST_NUMERIC_GROUPS:
        numbers = pd.to_numeric(pd.Series(values), errors="coerce")
        if bool(numbers.notna().all()):
            shown = ", ".join(sorted(values, key=float)[:5])
            raise BadInput(
                f"fairness.protected: column {column.name!r} holds {len(values)} different numbers "
                f"({shown}, ...), too many to be groups: add a transform with function "
                f"bin([0, 40, 60]) into a column such as {column.name}_group, and protect that"
            )
    return text.fillna(BLANK).astype(str)


def attribute_labels(rows: "pd.DataFrame", attribute: ProtectedAttribute) -> "pd.Series[str]":
    """Return each row's group of a protected attribute, which may be an intersection.

    Parameters
    ----------
    rows : (rows, columns) DataFrame
        With the columns of the attribute.
    attribute : ProtectedAttribute
        One column, or several whose values together make a group.

    Returns
    -------
    (rows,) str series
        Such as ``White & 20-29``; :data:`BLANK` where any of the columns says nothing.

    Raises
    ------
    BadInput
        A column holds numbers rather than groups.
    """
    first, *others = (group_labels(rows[column]) for column in attribute.columns)
    if not others:
        return first
    joined, blank = first, first == BLANK
    for labels in others:
        joined = joined + GROUP_SEPARATOR + labels
        blank |= labels == BLANK
    return joined.mask(blank, BLANK).rename(attribute.attribute)


def split_into_groups(
    labels: "pd.Series[str]",
    outcomes: Outcomes,
    *,
    attribute: ProtectedAttribute,
    min_group: int,
) -> tuple[list[Group], list[str]]:
    """Count each group's rows and decide which are compared.

    Parameters
    ----------
    labels : (rows,) str series
        Group of each test row.
    outcomes : Outcomes
        What became of the same rows.
    attribute : ProtectedAttribute
        Groups declared as privileged and unprivileged. Privileged when left out: the largest group
        that may be judged; unprivileged: all others.
    min_group : int
        Rows under which a group is listed but not judged.

    Returns
    -------
    groups : list of Group
        Largest first, blanks last.
    warnings : list of str
        Groups that could not be judged or found.
    """
    import numpy as np

    cells = outcomes.cells()
    sizes = labels.value_counts()
    names = sorted(sizes.index, key=lambda name: (name == BLANK, -int(sizes[name]), name))
    eligible = [name for name in names if name != BLANK and sizes[name] >= min_group]
    privileged, unprivileged = _sides(eligible, attribute)
    groups = []
    for name in names:
        rows = int(sizes[name])
        role: Role = "not judged"
        why = ""
        if name in privileged:
            role = "privileged"
        elif name in unprivileged:
            role = "unprivileged"
        elif name == BLANK:
            why = "no value"
        elif rows < min_group:
            why = f"fewer than {min_group} test rows"
        else:
            why = "declared neither privileged nor unprivileged"
        counts = np.bincount(cells[(labels == name).to_numpy()], minlength=1 << len(BITS))
        groups.append(Group(name=name, role=role, why=why, rows=rows, cells=counts))
    return groups, _warnings(groups, names, attribute, min_group)


def _sides(eligible: list[str], attribute: ProtectedAttribute) -> tuple[list[str], list[str]]:
    privileged = [name for name in eligible if name in attribute.privileged]
    if not attribute.privileged:
        privileged = [name for name in eligible if name not in attribute.unprivileged][:1]
    others = [name for name in eligible if name not in privileged]
    if attribute.unprivileged:
        others = [name for name in others if name in attribute.unprivileged]
    return privileged, others


def _warnings(
    groups: Sequence[Group], names: Sequence[str], attribute: ProtectedAttribute, min_group: int
) -> list[str]:
    column, found = attribute.attribute, []
    small = [f"{g.name} ({g.rows})" for g in groups if g.name != BLANK and g.rows < min_group]
    if small:
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        found.append(
            f"{column}: not judged, fewer than {min_group} test rows: {', '.join(small[:5])}{more}"
        )
    absent = [
        name for name in (*attribute.privileged, *attribute.unprivileged) if name not in names
    ]
    if absent:
        found.append(
            f"{column}: declared but not among the test rows: {', '.join(absent[:5])}; "
            f"there are {', '.join(names[:5])}"
        )
    for role in ("privileged", "unprivileged"):
        if not any(group.role == role for group in groups):
            found.append(
                f"{column}: no {role} group has {min_group} test rows, so nothing can be compared"
            )
    return found
