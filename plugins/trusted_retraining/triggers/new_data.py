"""Looks at a folder, here or in a bucket, and tells when what it holds has changed."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from tasks.contract import open_filesystem
from trusted_retraining.storage import S3, s3_options

_FACTS = ("size", "ETag", "mtime")


class NewDataTrigger(BaseEventTrigger):
    """Tells of a change once two looks in a row agree on it: an upload is not to be read half-way.

    What the folder held when the triggerer started is no change. Data that came while no triggerer
    ran are taken in by the next scheduled night, as those of any night are.

    Parameters
    ----------
    uri : str
        Folder or object, a path or an s3:// URI.
    conn_id : str
        Connection of the amazon provider, for a bucket.
    poll_seconds : float
        Time between two looks.
    """

    def __init__(self, *, uri: str, conn_id: str, poll_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.uri = uri
        self.conn_id = conn_id
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        arguments = {"uri": self.uri, "conn_id": self.conn_id, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for every change."""
        known = before = None
        while True:
            try:
                state = await sync_to_async(self.look)()
            except Exception as error:
                # a store that is away for a while must not end the watch
                self.log.warning("%s cannot be looked at: %s", self.uri, error)
                # its connection may have been given other credentials meanwhile
                s3_options.cache_clear()
                state = None
            if state is not None:
                if known is None:
                    known = state
                elif state != known and state == before:
                    known = state
                    yield TriggerEvent({"uri": self.uri, "state": state})  # type: ignore[no-untyped-call]
                before = state
            await asyncio.sleep(self.poll_seconds)

    def look(self) -> str:
        """Return a digest of the listing: names, sizes, tags or times."""
        options = s3_options(self.conn_id) if self.uri.startswith(S3) else None
        fs, path = open_filesystem(self.uri, options)
        digest = hashlib.sha256()
        for name, facts in sorted(fs.find(path, detail=True).items()):
            line = " ".join(str(facts.get(fact, "")) for fact in _FACTS)
            digest.update(f"{name} {line}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
