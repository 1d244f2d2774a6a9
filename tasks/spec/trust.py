"""Sections of the checks that others leave out: fairness, explanations, adversarial robustness."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.spec.base import PositiveInt, Section


class ProtectedAttribute(Section):
    """A column whose groups must be served alike."""

    attribute: str
    """Column of the metadata."""
    privileged: list[str] = []
    """Groups that serve as the reference; the largest group when left out."""
    unprivileged: list[str] = []
    """Groups that are compared with it; all others when left out."""


class Fairness(Section):
    """AIF360's group metrics on the test predictions."""

    protected: list[ProtectedAttribute] = []
    """Protected attributes; none leaves the check without a finding."""
    favourable: str = "correct"
    """Favourable outcome: ``correct`` (classified correctly), or the name of a class."""
    min_group: PositiveInt = 10
    """Test rows under which a group is listed but not judged."""


class Explain(Section):
    """LIME explanations of test images."""

    images: Annotated[int, Field(ge=1, le=10_000)] = 12
    """Images explained, spread over classes and over right and wrong predictions."""
    samples: Annotated[int, Field(ge=50, le=100_000)] = 500
    """Perturbed copies of each."""
    segments: Annotated[int, Field(ge=4, le=2_000)] = 60
    """Superpixels (SLIC) asked for in each."""
    seed: int = 0
    """Seed of the choice and of the perturbations."""


class Robustness(Section):
    """Adversarial attacks (ART) within a largest change per pixel."""

    attacks: list[Literal["fgsm", "pgd"]] = ["fgsm", "pgd"]
    """Attacks that are run."""
    strengths: list[Annotated[float, Field(gt=0, le=1)]] = [0.005, 0.01, 0.02, 0.05]
    """Largest change of a pixel (L-infinity), as a fraction of the pixel range."""
    steps: PositiveInt = 10
    """Steps of PGD."""
    images: PositiveInt = 64
    """Test images attacked, spread over classes."""
    seed: int = 0
    """Seed of the choice of images and of PGD's random starts."""
