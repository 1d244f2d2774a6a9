"""Section of a source that the user's own code reads."""

from typing import Annotated, Any, Literal

from pydantic import field_validator

from tasks.spec.base import Fraction, Section, Uri
from tasks.spec.marks import Code


class Custom(Section):
    """A source that a class of your own reads."""

    kind: Literal["custom"] = "custom"
    """How the source is laid out."""
    reader: Annotated[str, Code()]
    """``package.module:Class``, a subclass of ``tasks.data.sources.SourceReader`` that is made with
    this section; on ``PYTHONPATH`` or installed where the stages run."""
    uri: Uri | None = None
    """Where it reads from, if that is an address."""
    options: Annotated[dict[str, Any], Code()] = {}
    """Whatever else the class wants to know; it checks them itself. No secrets: the pipeline file
    is logged and reported."""
    max_quarantined: Fraction = 0.1
    """Share of the images found that may fail verification before the night is stopped."""
    max_missing: Fraction = 0.1
    """Share of the rows whose image may be absent before the night is stopped."""

    @field_validator("reader")
    @classmethod
    def _looks_like_a_class(cls, text: str) -> str:
        module, colon, name = text.partition(":")
        if not colon or not all(part.isidentifier() for part in [*module.split("."), name]):
            raise ValueError(f"{text!r} is not package.module:Class")
        return text
