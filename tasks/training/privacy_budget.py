"""What private training is to guarantee, and what it does not."""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.contract import BadConfig
from tasks.spec import Train
from tasks.training.privacy_accounting import (
    Mechanism,
    calibrated,
    group_epsilon,
    pld_epsilon,
    rdp_epsilon,
)

log = logging.getLogger("tasks")

_WEAK = 10.0
"""Epsilon above which a warning is given."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A mechanism and its guarantee.

    Attributes
    ----------
    mechanism : Mechanism
        What is done.
    l2_norm_clip : float
        Bound on the norm of an image's gradient.
    delta : float
        Probability with which epsilon may fail to hold.
    epsilon : float
        Bound on the privacy loss when one image is added or removed: the lesser of the two
        accountants' bounds.
    epsilon_rdp : float
        The same from Rényi differential privacy alone, as most publications state it.
    images_per_group : int
        Most training images of one group (patient).
    epsilon_group : float or None
        The bound when all images of such a group are added or removed at once; None where it is
        too large to be worth a figure.
    """

    mechanism: Mechanism
    l2_norm_clip: float
    delta: float
    epsilon: float
    epsilon_rdp: float
    images_per_group: int
    epsilon_group: float | None

    def metrics(self) -> dict[str, float]:
        """Return the figures, as metrics of the stage; what has no figure is left out."""
        figures = {
            "epsilon": self.epsilon,
            "epsilon_rdp": self.epsilon_rdp,
            "epsilon_group": self.epsilon_group,
            "delta": self.delta,
            "noise_multiplier": self.mechanism.noise_multiplier,
            "l2_norm_clip": self.l2_norm_clip,
            "sampling_rate": self.mechanism.sampling_rate,
            "steps": self.mechanism.steps,
            "images_per_group": self.images_per_group,
        }
        return {f"dp.{name}": float(value) for name, value in figures.items() if value is not None}

    def sentence(self) -> str:
        """Return the guarantee in words."""
        return (
            f"adding or removing one training image changes the probability of any model by a "
            f"factor of {math.exp(self.epsilon):.3g} at most, but for a probability of "
            f"{self.delta:g}"
        )


def plan_budget(train: Train, groups: Sequence[str]) -> Budget:
    """Return noise and guarantee of a training before it begins.

    Parameters
    ----------
    train : Train
        The section of the pipeline file, with ``privacy``.
    groups : sequence of str
        Group of each image that is learned from; validation images are not among them.

    Raises
    ------
    BadConfig
        ``delta`` is so large that it would allow one image to be given away, or no noise reaches
        the target.
    """
    privacy, images = train.privacy, len(groups)
    if privacy is None:
        raise ValueError("train.privacy is not set")
    if privacy.delta * images >= 1:
        raise BadConfig(
            f"train.privacy.delta: {privacy.delta:g} would allow one of {images} training images "
            f"to be given away; set it below {1 / images:.2g}"
        )

    def mechanism(noise_multiplier: float) -> Mechanism:
        return Mechanism(
            sampling_rate=min(train.batch_size / images, 1.0),
            steps=train.epochs * -(-images // train.batch_size),
            noise_multiplier=noise_multiplier,
            class_count_noise=(
                privacy.class_count_noise if train.class_weights == "balanced" else None
            ),
        )

    noise = privacy.noise_multiplier
    if noise is None:
        assert privacy.target_epsilon is not None  # noqa: S101  the section gives one of the two
        noise = calibrated(mechanism, privacy.target_epsilon, privacy.delta)
    chosen = mechanism(noise)
    by_rdp = rdp_epsilon(chosen.event(), privacy.delta)
    epsilon = min(by_rdp, pld_epsilon(chosen.event(), privacy.delta, instead_of=by_rdp))
    largest = max(Counter(groups).values())
    budget = Budget(
        mechanism=chosen,
        l2_norm_clip=privacy.l2_norm_clip,
        delta=privacy.delta,
        epsilon=epsilon,
        epsilon_rdp=by_rdp,
        images_per_group=largest,
        epsilon_group=group_epsilon(chosen, largest, privacy.delta, epsilon=epsilon),
    )
    log.info(
        "private training: noise multiplier %.3f, %d steps, epsilon %.3f at delta %g",
        noise,
        chosen.steps,
        epsilon,
        privacy.delta,
    )
    return budget


def budget_warnings(train: Train, budget: Budget) -> list[str]:
    """Return, for the report, what the guarantee does not cover.

    Parameters
    ----------
    train : Train
        The section of the pipeline file.
    budget : Budget
        Its guarantee.
    """
    warnings = []
    if budget.images_per_group > 1:
        whole = (
            "is too large to mean anything"
            if budget.epsilon_group is None
            else f"is epsilon {budget.epsilon_group:.3g}"
        )
        warnings.append(
            f"the privacy guarantee, epsilon {budget.epsilon:.3g}, is about one image; one group "
            f"has {budget.images_per_group} training images, and for all of them at once it {whole}"
        )
    if train.early_stopping is not None:
        warnings.append(
            "the validation images choose the epoch that is kept (train.early_stopping): the "
            "privacy guarantee is about the images learned from, not about them"
        )
    if budget.epsilon > _WEAK:
        warnings.append(
            f"epsilon {budget.epsilon:.3g} promises little: an observer's odds on whether an image "
            f"was learned from may grow by a factor of {math.exp(min(budget.epsilon, 50)):.2g}"
        )
    return warnings
