"""How a stage's lines look: without credentials, and each message one line whatever it quotes."""

import logging

from tasks.spec.foreign_text import visible
from tasks.spec.masking import without_credentials

LONGEST = 8_000
"""Characters of a line; a cell or a name of megabytes must not fill a log."""

STYLED = {"styled": True}
"""``extra`` of lines that hold terminal colours of our own, and nothing of others unescaped."""


class LineFormatter(logging.Formatter):
    """Formats a record as one line, and its traceback as lines that begin with ``|``.

    Whatever a library or a file's name brings along is shown, not obeyed: line breaks and escape
    sequences are written out, and no line of a traceback can pose as a command to a CI server.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        # masked before it is cut: half of an address cannot be told for one
        text = without_credentials(super().formatMessage(_with_message(record)))[: LONGEST + 1]
        if not getattr(record, "styled", False):
            text = visible(text)
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
        if record.exc_info:
            trace = without_credentials(self.formatException(record.exc_info))
            lines = trace.replace("\r", "\n").split("\n")
            text = "\n".join([text, *(f"| {visible(line)[:LONGEST]}" for line in lines)])
        return text


def _with_message(record: logging.LogRecord) -> logging.LogRecord:
    record.message = record.getMessage()
    return record
