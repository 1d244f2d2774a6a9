"""Sections that say how the rows of a source become a labelled, split data set."""

from typing import Literal

from pydantic import field_validator, model_validator

from tasks.spec.base import Fraction, MetricPart, OpenFraction, PositiveInt, Section
from tasks.spec.expressions import check_function


class Transform(Section):
    """A function applied to a column of the metadata; parsed, never executed."""

    column: str
    """Column that is read."""
    function: str
    """``replace('/','_')``, ``lower()``, ``strip()``, ``map({...}, default=...)``,
    ``regex(pattern, replacement)``, ``to_number()``, ``fill(value)``,
    ``bin([0, 40, 60], labels=[...])``, ``normalise()`` or
    ``merge_rare(20, into='other', per='patientid')``."""
    into: str | None = None
    """Column that is written; the column itself when left out."""

    @field_validator("function")
    @classmethod
    def _known(cls, text: str) -> str:
        check_function(text)
        return text


class Label(Section):
    """What is to be learned."""

    column: str
    """Column that holds the class."""
    classes: list[MetricPart] | None = None
    """Class names in the order of the model's outputs; the data's own, sorted, when left out."""
    positive: str | None = None
    """Class that counts as the finding; the last one of two when left out."""
    max_conflicting: Fraction = 0.01
    """Share of the images that may be there with different labels before the night is stopped: of
    one file in several rows (``arrange``; its first row counts), and of equal files (``validate``).
    """

    @model_validator(mode="after")
    def _consistent(self) -> "Label":
        if self.classes is not None:
            if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
                raise ValueError(f"classes must be two or more different names, got {self.classes}")
            if self.positive is not None and self.positive not in self.classes:
                raise ValueError(f"positive {self.positive!r} is not one of classes {self.classes}")
        return self


class Split(Section):
    """Which rows train and which test. By hash of the group, so that a patient never sits on both
    sides and stays on its side as the data grows."""

    group: str | None = None
    """Column whose equal values stay together (patient, person); the image itself when left out."""
    blank_groups: list[str] = []
    """Values of that column that mean that nobody knows, such as ``unknown``, whatever their case:
    each of their images is then a group of its own, as with a blank."""
    test: OpenFraction = 0.2
    """Share of the groups that is held out for the test."""
    column: str | None = None
    """Column that already says ``train`` or ``test``; takes the place of the hash."""
    salt: str = ""
    """Changes which groups are held out."""
    near_duplicates: Literal["auto", "on", "off"] = "auto"
    """Whether groups that share nearly the same picture stay together too: ``auto`` looks at images
    of at least 64 pixels a side, ``on`` at all (small ones look alike without being the same)."""
    layout: Literal["links", "shards"] = "links"
    """Folders per class as hard links to the ingested files, or packed into tar shards."""
    shard_megabytes: PositiveInt = 256
    """Size at which a shard is closed."""

    @field_validator("near_duplicates", mode="before")
    @classmethod
    def _word(cls, value: object) -> object:
        # to YAML 1.1 the words on and off are truth values
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class Validate(Section):
    """What the arranged data must be like before a GPU is spent on it."""

    required_columns: list[str] = []
    """Columns that must be there."""
    min_rows: PositiveInt = 50
    """Rows needed in all."""
    min_per_class: PositiveInt = 10
    """Rows needed in each class, in training and test together."""
    min_test_per_class: PositiveInt = 5
    """Rows needed in each class of the test set."""
    max_class_share: Fraction = 0.95
    """Share of one class above which a warning is given."""
    leakage: Literal["error", "warn"] = "error"
    """What the same group or the same content on both sides of the split means."""
