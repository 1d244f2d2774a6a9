"""Decides which rows train and which test: by hash of the group, never by chance."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Grouping:
    """Groups after those that share an image have been joined.

    Attributes
    ----------
    keys : list of str
        Group of each row; rows of joined groups have the same one.
    members : dict of str to list of str
        Original groups in each joined group.
    """

    keys: list[str]
    members: dict[str, list[str]]

    @property
    def joined(self) -> int:
        """Number of groups that stand for more than one of the source's."""
        return sum(len(names) > 1 for names in self.members.values())


def join_groups(groups: Sequence[str], *contents: Sequence[str | None]) -> Grouping:
    """Join groups in which the same image occurs, so that no image can be on both sides.

    Parameters
    ----------
    groups : sequence of str
        Group of each row: the patient.
    *contents : sequence of str or None
        What rows of different groups may have in common: the digest of the image, its family of
        near duplicates. None is never in common.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first_group: dict[str, str] = {}
    for column in contents:
        for group, content in zip(groups, column, strict=True):
            if content is not None:
                one, other = sorted((root(group), root(first_group.setdefault(content, group))))
                parent[other] = one
    keys = [root(group) for group in groups]
    members: dict[str, list[str]] = {}
    for group in sorted(set(groups)):
        members.setdefault(root(group), []).append(group)
    return Grouping(keys=keys, members=members)


def hash_sides(grouping: Grouping, *, test: float, salt: str = "") -> list[str]:
    """Return ``train`` or ``test`` for each row.

    A group's side depends on its name and the salt alone: it stays as the data grow. Joined groups
    test only if each of them would alone, so that a join moves nobody into the test set. The end of
    a join may: see :meth:`tasks.data.trained_on.TrainedOn.seen`.

    Parameters
    ----------
    grouping : Grouping
        Groups of the rows.
    test : float
        Share of the groups that is held out, 0 to 1.
    salt : str
        Changes which groups are held out.
    """
    side = {
        key: "test" if all(in_test(name, test=test, salt=salt) for name in names) else "train"
        for key, names in grouping.members.items()
    }
    return [side[key] for key in grouping.keys]


def in_test(group: str, *, test: float, salt: str = "") -> bool:
    """Tell whether a group is held out: its SHA-256, read as a fraction, is below ``test``."""
    digest = hashlib.sha256(f"{salt}\0{group}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < test
