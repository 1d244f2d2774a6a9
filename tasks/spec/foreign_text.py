"""Shows names and messages that come from elsewhere: files, columns, labels, libraries.

A file may be called anything that a file system takes. A line break would make two log lines of
one, an escape sequence would be obeyed by a terminal, an override of the writing direction would
show another name than the real one.
"""

import re

from tasks.spec.masking import masked

LONGEST_NAME = 120
"""Characters of a name that a message shows."""

# C0, DEL and C1; separators of lines; embeddings, overrides and isolates of the direction;
# annotations, tags and what has no place in UTF-8. Marks that scripts need (joiners) stay.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def visible(text: str, *, keep: str = "") -> str:
    r"""Return a text whose control characters are written out: ``\n``, ``\x1b``, ``\u202e``.

    Parameters
    ----------
    text : str
        What somebody else wrote. A text that went through before stays as it is.
    keep : str
        Control characters that are meant, such as the line breaks of a page.
    """

    def written_out(match: re.Match[str]) -> str:
        return match[0] if match[0] in keep else ascii(match[0])[1:-1]

    return _UNSAFE.sub(written_out, text)


def shown(name: object, length: int = LONGEST_NAME) -> str:
    """Return a name for a message: masked, visible, and no longer than a line bears."""
    # masked before it is cut: half of an address cannot be told for one
    text = visible(masked(str(name))[: length + 1])
    return text if len(text) <= length else f"{text[: length - 3]}..."
