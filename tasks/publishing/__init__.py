"""Puts what a night made where others find it: whole or not at all, once for the same content."""

from tasks.publishing.dataset import Published, data_fingerprint, publish_dataset
from tasks.publishing.destination import Destination

__all__ = ["Destination", "Published", "data_fingerprint", "publish_dataset"]
