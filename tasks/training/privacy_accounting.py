"""Accountants of differential privacy: epsilon of a mechanism, and noise for an epsilon."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dp_accounting
from dp_accounting import pld, rdp

from tasks.contract import BadConfig

# dp-accounting tells of every order that it leaves out; the others bound epsilon as well
logging.getLogger("absl").addFilter(lambda line: "failed to converge" not in str(line.msg))

_MEANINGFUL = 20.0
"""Epsilon above which the exact accountant is slow, and a tighter figure would promise nothing."""

_TOLERANCE = 0.02
"""Precision of a calculated noise multiplier, as a fraction of it."""


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """All that touches the training images under the guarantee.

    Attributes
    ----------
    sampling_rate : float
        Probability with which an image is in a step, in (0, 1].
    steps : int
        Steps of all epochs. Early stopping takes fewer; when it strikes depends on the data, so
        only the number that was set beforehand may be counted.
    noise_multiplier : float
        Standard deviation of the noise on a step's sum of clipped gradients, over the clip.
    class_count_noise : float or None
        Standard deviation of the noise on the number of images a class; None when they are not
        looked at.
    """

    sampling_rate: float
    steps: int
    noise_multiplier: float
    class_count_noise: float | None = None

    def event(self) -> Any:
        """Return it as an event of dp-accounting, for one image."""
        step = dp_accounting.PoissonSampledDpEvent(
            self.sampling_rate, dp_accounting.GaussianDpEvent(self.noise_multiplier)
        )
        return self._with_counts(dp_accounting.SelfComposedDpEvent(step, self.steps), images=1)

    def group_event(self, images: int) -> Any:
        """Return it as an event of dp-accounting, for all images of a group at once.

        Of k images, as many are in a step as a binomial variable says, and each moves the sum by
        the clip at most: a mixture of Gaussians [1]_.

        References
        ----------
        .. [1] Ganesh, "Tight group-level DP guarantees for DP-SGD with sampling via mixture of
           Gaussians mechanisms", arXiv:2401.10294.
        """
        from scipy.stats import binom

        counts = list(range(images + 1))
        shares = binom.pmf(counts, images, self.sampling_rate).tolist()
        step = dp_accounting.dp_event.MixtureOfGaussiansDpEvent(
            self.noise_multiplier, counts, shares
        )
        return self._with_counts(dp_accounting.SelfComposedDpEvent(step, self.steps), images=images)

    def _with_counts(self, training: Any, *, images: int) -> Any:
        if self.class_count_noise is None:
            return training
        counts = dp_accounting.GaussianDpEvent(self.class_count_noise / images)
        return dp_accounting.ComposedDpEvent([counts, training])


def rdp_epsilon(event: Any, delta: float) -> float:
    """Return epsilon by Rényi differential privacy [1]_, for one image added or removed.

    References
    ----------
    .. [1] Mironov, Talwar and Zhang, "Rényi differential privacy of the sampled Gaussian
       mechanism", arXiv:1908.10530.
    """
    accountant = rdp.RdpAccountant()
    accountant.compose(event)
    return float(accountant.get_epsilon(delta))


def pld_epsilon(event: Any, delta: float, *, instead_of: float) -> float:
    """Return epsilon by the distribution of the privacy loss [1]_, rounded up at every step.

    Parameters
    ----------
    event : DpEvent
        Mechanism.
    delta : float
        Probability with which epsilon may fail to hold.
    instead_of : float
        A known bound. Beyond what means anything it is returned as it is.

    References
    ----------
    .. [1] Doroshenko et al., "Connect the dots: tighter discrete approximations of privacy loss
       distributions", PoPETs 2022.
    """
    if instead_of > _MEANINGFUL:
        return instead_of
    accountant = pld.PLDAccountant()
    accountant.compose(event)
    return float(accountant.get_epsilon(delta))


def group_epsilon(
    mechanism: Mechanism, images: int, delta: float, *, epsilon: float
) -> float | None:
    """Return epsilon for a group of images added or removed at once.

    Parameters
    ----------
    mechanism : Mechanism
        What is done.
    images : int
        Images of the group.
    delta : float
        Probability with which epsilon may fail to hold.
    epsilon : float
        Epsilon of a single image.

    Returns
    -------
    float or None
        None where it is too large to mean anything.
    """
    if images == 1:
        return epsilon
    # k images lose at least about k times as much; beyond this the figure is of no use to anybody
    if images * epsilon > 2 * _MEANINGFUL:
        return None
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(mechanism.group_event(images))
    found = float(accountant.get_epsilon(delta))
    return found if math.isfinite(found) else None


def calibrated(mechanism: Callable[[float], Mechanism], target: float, delta: float) -> float:
    """Return the least noise multiplier, to one in fifty, that keeps to an epsilon.

    Parameters
    ----------
    mechanism : callable
        Mechanism of a noise multiplier.
    target : float
        Epsilon to be kept to.
    delta : float
        Probability with which it may fail to hold.

    Raises
    ------
    BadConfig
        No noise keeps to it.
    """

    def event(noise_multiplier: float) -> Any:
        return mechanism(noise_multiplier).event()

    try:
        # the fast accountant first: its noise is enough, and not much too much
        enough = dp_accounting.calibrate_dp_mechanism(
            rdp.RdpAccountant,
            event,
            target,
            delta,
            dp_accounting.LowerEndpointAndGuess(0.1, 1.0),
            tol=_TOLERANCE / 10,
        )
    except (dp_accounting.mechanism_calibration.NoBracketIntervalFoundError, ValueError) as error:
        raise BadConfig(
            f"train.privacy.target_epsilon: no noise keeps to {target:g} at delta {delta:g} over "
            f"{mechanism(1.0).steps} steps; raise it, lower train.epochs, or raise "
            "train.privacy.class_count_noise"
        ) from error
    if target > _MEANINGFUL:
        return float(enough)
    low, high = 0.6 * enough, enough
    while high - low > _TOLERANCE * high:
        middle = (low + high) / 2
        if pld_epsilon(event(middle), delta, instead_of=target) <= target:
            high = middle
        else:
            low = middle
    return float(high)
