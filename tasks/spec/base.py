"""What all sections of a pipeline file share."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class SpecError(ValueError):
    """A pipeline file or override is wrong; the text names file, field, value and the way out."""


class Section(BaseModel):
    """A section of the pipeline file. A field's docstring is its help text, everywhere."""

    # JSON has no word for NaN and infinity: a bound of either would reach a stage as no bound
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def without_password(text: str) -> str:
    """Return the text with user and password of every address in it left out."""
    # a password that is not quoted may hold slashes, and drivers take one from the query, too
    text = re.sub(r"(?<=://)[^/:@\s'\"]*(?::[^@\s'\"]*)?@", "***@", text)
    return re.sub(r"(?i)((?:password|passwd|pwd|secret|token)(?:=|%3d))[^&\s'\"]+", r"\1***", text)


def _holds_no_password(uri: str) -> str:
    if urlsplit(uri).password is not None:
        # every field is logged, reported and handed to pods as it stands
        raise ValueError("holds a password; put it into ~/.netrc, which is asked for the host")
    return uri


Uri = Annotated[str, AfterValidator(_holds_no_password)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
