"""Which training groups are watched rather than learned from."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.contract import BadInput


def validation_rows(groups: Sequence[str], *, share: float) -> NDArray[np.bool_]:
    """Choose validation rows by hash of their group, so that a patient never sits on both sides.

    Parameters
    ----------
    groups : sequence of str
        Group of each training row.
    share : float
        Share of the groups, in (0, 1).

    Returns
    -------
    ndarray
        bool, shape (len(groups),). At least one group is on each side.

    Raises
    ------
    BadInput
        There is a single group.
    """
    ranks = {group: _rank(group) for group in set(groups)}
    if len(ranks) < 2:
        raise BadInput(
            f"the training rows form {len(ranks)} group, and at least one must be left out for "
            "validation: set split.group to a column with more values"
        )
    by_rank = sorted(ranks, key=lambda group: ranks[group])
    chosen = {group for group, rank in ranks.items() if rank < share}
    chosen = (chosen or {by_rank[0]}) - ({by_rank[-1]} if len(chosen) == len(ranks) else set())
    return np.fromiter((group in chosen for group in groups), bool, len(groups))


def _rank(group: str) -> float:
    # another prefix than the test split's, else the groups nearest to it would be chosen
    digest = hashlib.sha256(f"validation\0{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64
