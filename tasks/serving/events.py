"""Cloud events: a V1 request in an envelope, answered in one, as KServe answers.

https://github.com/cloudevents/spec. KServe's own code parses them on the event loop.
"""

import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from tasks.serving.values import BadRequest

STRUCTURED = "application/cloudevents+json"
"""Content-Type of an envelope that is the body."""

_NEEDED = ("ce-specversion", "ce-id", "ce-source", "ce-type")
# of the request: an answer has its own
_OWN = {"id", "time", "datacontenttype", "data", "data_base64"}


class Event:
    """The envelope of a request.

    Parameters
    ----------
    attributes : mapping
        Of a binary event, whose attributes are headers; None of a structured one, whose attributes
        are read with its body.
    """

    def __init__(self, attributes: Mapping[str, str] | None) -> None:
        self._binary = attributes is not None
        self._attributes: dict[str, Any] = dict(attributes or {})

    def opened(self, document: Any) -> Any:
        """Return what a body holds: a structured event's data, a binary event's body.

        Raises
        ------
        BadRequest
            A structured event holds no data.
        """
        if self._binary:
            return document
        if not isinstance(document, dict) or "data" not in document:
            raise BadRequest("a cloud event must hold data, the request as JSON")
        self._attributes = {
            name: value
            for name, value in document.items()
            if name not in _OWN and isinstance(value, (str, int, bool))
        }
        return document["data"]

    def closed(self, name: str, document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the body and the headers of an answer.

        Parameters
        ----------
        name : str
            Name of the model.
        document : dict
            The answer of V1.
        """
        attributes = {
            # KServe's settings of what an answer says
            **(self._attributes if os.environ.get("CE_MERGE", "").lower() == "true" else {}),
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "time": datetime.now(UTC).isoformat(),
            "type": os.environ.get("CE_TYPE", "io.kserve.inference.response"),
            "source": os.environ.get("CE_SOURCE", f"io.kserve.inference.{quote(name)}"),
        }
        if self._binary:
            return document, {f"ce-{key}": str(value) for key, value in attributes.items()}
        return {**attributes, "data": document}, {"content-type": STRUCTURED}


def event_of(headers: Mapping[str, str]) -> Event | None:
    """Return the envelope that a request comes in; None when it comes in none."""
    if all(name in headers for name in _NEEDED):
        found = {
            name.removeprefix("ce-"): value
            for name, value in headers.items()
            if name.startswith("ce-") and name.removeprefix("ce-") not in _OWN
        }
        return Event(found)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Event(None) if kind == STRUCTURED else None
