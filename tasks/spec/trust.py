"""Sections of the checks that others leave out: fairness, explanations, adversarial robustness."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tasks.spec.base import NO_TRUTH, Fraction, MetricPart, Name, PositiveInt, Section

GROUP_SEPARATOR = " & "
"""Stands between the values of an intersection's columns in the name of a group."""


Box = tuple[Fraction, Fraction, Fraction, Fraction]
"""Left, top, right, bottom, as fractions of an image's sides."""


class ProtectedAttribute(Section):
    """A column, or an intersection of columns, whose groups must be served alike."""

    attribute: MetricPart
    """Column of the metadata; ``race*age`` is the intersection of two, or more."""
    privileged: list[str] = []
    """Groups that serve as the reference; the largest group when left out. A group of an
    intersection is named as in ``White & 20-29``."""
    unprivileged: list[str] = []
    """Groups that are compared with it; all others when left out."""

    @field_validator("attribute")
    @classmethod
    def _names_columns(cls, attribute: str) -> str:
        if "*" not in attribute:
            return attribute
        columns = [column.strip() for column in attribute.split("*")]
        if not all(columns) or len(set(columns)) < len(columns):
            raise ValueError(
                f"{attribute!r} is no intersection: name different columns, as in race*age"
            )
        # spelt one way, since metrics are named after it
        return "*".join(columns)

    @property
    def columns(self) -> list[str]:
        """The columns whose intersection it is; one of them for a plain attribute."""
        return self.attribute.split("*")


FAIRLEARN = ".fairlearn"
"""Stands behind an attribute in the names of Fairlearn's metrics."""


class Fairness(Section):
    """Group metrics of AIF360 and of Fairlearn on the test predictions."""

    protected: list[ProtectedAttribute] = []
    """Protected attributes; none leaves the check without a finding."""
    favourable: str = "correct"
    """Favourable outcome: ``correct`` (classified correctly), or the name of a class."""
    min_group: PositiveInt = 10
    """Test rows under which a group is listed but not judged."""
    n_boot: Annotated[int, Field(ge=0, le=10_000), NO_TRUTH] = 100
    """Bootstrap samples of Fairlearn's intervals, about 0.04 s each; 0 gives none."""

    @field_validator("protected")
    @classmethod
    def _metrics_are_told_apart(
        cls, protected: list[ProtectedAttribute]
    ) -> list[ProtectedAttribute]:
        names = [each.attribute for each in protected]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is given twice, and metrics are named after it")
            if name.endswith(FAIRLEARN):
                raise ValueError(
                    f"{name!r} ends as the metrics of Fairlearn do: rename the column by a "
                    "transform (into)"
                )
        return protected


class Explain(Section):
    """Explanations of test images: which parts speak for the predicted class."""

    methods: Annotated[
        list[Literal["lime", "gradient_shap", "partition_shap"]], Field(min_length=1)
    ] = ["lime"]
    """Methods, each with figures of its own: LIME over superpixels, SHAP by expected gradients, and
    SHAP by halves of halves of the image (Owen values)."""
    images: Annotated[int, Field(ge=1, le=10_000)] = 12
    """Images explained, spread over classes and over right and wrong predictions."""
    samples: Annotated[int, Field(ge=50, le=100_000)] = 500
    """Perturbed copies of each that a method may have the model look at."""
    segments: Annotated[int, Field(ge=4, le=2_000)] = 60
    """Superpixels (SLIC) that LIME asks for in each."""
    background: Annotated[int, Field(ge=1, le=1_000)] = 50
    """Training images that ``gradient_shap`` compares with, spread over classes."""
    parts: Annotated[
        dict[Name, Annotated[list[Box], Field(min_length=1, max_length=20)]], Field(max_length=20)
    ] = {}
    """Parts that lie about the same place in every image, as eyes do in aligned faces: a name, and
    boxes ``[left, top, right, bottom]`` as fractions of the sides. Of each it is told how much of
    what speaks for the predicted class lies in it."""
    seed: int = 0
    """Seed of the choice and of the perturbations."""

    @field_validator("parts")
    @classmethod
    def _boxes_hold_something(cls, parts: dict[str, list[Box]]) -> dict[str, list[Box]]:
        for name, boxes in parts.items():
            for left, top, right, bottom in boxes:
                if left >= right or top >= bottom:
                    raise ValueError(
                        f"{name}: [{left:g}, {top:g}, {right:g}, {bottom:g}] is no box: give left, "
                        "top, right, bottom, each of the latter two larger than its counterpart"
                    )
        return parts

    def parts_without_pixels(self, image_size: tuple[int, int]) -> list[str]:
        """Return the parts in none of whose boxes the centre of a pixel lies."""
        height, width = image_size
        return [
            name
            for name, boxes in self.parts.items()
            if not any(
                pixels_between(left, right, width) and pixels_between(top, bottom, height)
                for left, top, right, bottom in boxes
            )
        ]

    @field_validator("methods")
    @classmethod
    def _each_once(cls, methods: list[str]) -> list[str]:
        if len(set(methods)) < len(methods):
            raise ValueError(f"{', '.join(methods)}: name each method once")
        return methods


def pixels_between(start: float, end: float, pixels: int) -> list[int]:
    """Return the pixels along a side whose centres lie from ``start`` to before ``end``.

    Parameters
    ----------
    start, end : float
        Fractions of the side.
    pixels : int
        Pixels of the side.
    """
    return [number for number in range(pixels) if start <= (number + 0.5) / pixels < end]


class Robustness(Section):
    """Adversarial attacks (ART) within a largest change per pixel."""

    attacks: list[Literal["fgsm", "pgd"]] = ["fgsm", "pgd"]
    """Attacks that are run."""
    strengths: list[Annotated[float, Field(gt=0, le=1), NO_TRUTH]] = [0.005, 0.01, 0.02, 0.05]
    """Largest change of a pixel (L-infinity), as a fraction of the pixel range."""
    steps: PositiveInt = 10
    """Steps of PGD."""
    images: PositiveInt = 64
    """Test images attacked, spread over classes."""
    seed: int = 0
    """Seed of the choice of images and of PGD's random starts."""
