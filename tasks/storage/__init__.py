"""Moves outputs between this machine and an object store: few large objects, verified both ways."""

from tasks.storage.inputs import InputCache
from tasks.storage.mirror import Mirror
from tasks.storage.upload import store_outputs
from tasks.storage.verified import altered, compare, read_verified, unreadable
from tasks.storage.workspace import Workspace

__all__ = [
    "InputCache",
    "Mirror",
    "Workspace",
    "altered",
    "compare",
    "read_verified",
    "store_outputs",
    "unreadable",
]
