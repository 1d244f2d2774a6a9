"""Data: sources, verification, column functions, predicates, split, and the arranged data set."""

from tasks.data.arranged import Arranged

__all__ = ["Arranged"]
