"""What all sections of a pipeline file share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class SpecError(ValueError):
    """A pipeline file or override is wrong; the text names file, field, value and the way out."""


class Section(BaseModel):
    """A section of the pipeline file. A field's docstring is its help text, everywhere."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
