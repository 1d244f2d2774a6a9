"""Epsilon against published values, noise for an epsilon, and what is planned for a training."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from pydantic import ValidationError

from tasks.contract import BadConfig
from tasks.spec import Train
from tasks.training.privacy_accounting import (
    Mechanism,
    calibrated,
    group_epsilon,
    pld_epsilon,
    rdp_epsilon,
)
from tasks.training.privacy_budget import budget_warnings, plan_budget


def mechanism(rate: float, noise: float, steps: int, counts: float | None = None) -> Mechanism:
    return Mechanism(
        sampling_rate=rate, steps=steps, noise_multiplier=noise, class_count_noise=counts
    )


def moments_epsilon(found: Mechanism, delta: float) -> float:
    """Epsilon as the publications of 2016 to 2019 convert it: min of rdp + ln(1/delta)/(a - 1)."""
    accountant = rdp.RdpAccountant()
    accountant.compose(found.event())
    orders, losses = np.array(accountant._orders), np.array(accountant._rdp)
    return float(np.min(losses + math.log(1 / delta) / (orders - 1)))


@pytest.mark.parametrize(
    ("images", "batch", "noise", "steps", "delta", "published"),
    [
        # Abadi et al. 2016, section 3.2: q = 0.01, sigma = 4, 10,000 steps
        (100, 1, 4.0, 10_000, 1e-5, 1.26),
        # Bu et al. 2020, figure 4: MNIST, 20 epochs at sigma 1.3 and 70 at 0.7 (1.34 and 8.68
        # there, of steps that are not whole)
        (60_000, 256, 1.3, round(20 * 60_000 / 256), 1e-5, 1.35),
        (60_000, 256, 0.7, round(70 * 60_000 / 256), 1e-5, 8.68),
        # TensorFlow Privacy, tutorials/README: 15, 60 and 45 epochs of MNIST
        (60_000, 256, 1.3, 15 * 234, 1e-5, 1.19),
        (60_000, 256, 1.1, 60 * 234, 1e-5, 3.01),
        (60_000, 256, 0.7, 45 * 234, 1e-5, 7.10),
        # TensorFlow Privacy, compute_dp_sgd_privacy: its documented example
        (60_000, 256, 1.12, 14_063, 1e-5, 2.92),
    ],
)
def test_a_training_costs_what_was_published(
    images: int, batch: int, noise: float, steps: int, delta: float, published: float
) -> None:
    found = mechanism(batch / images, noise, steps)
    assert moments_epsilon(found, delta) == pytest.approx(published, abs=0.006)
    # the conversion of today is tighter
    assert rdp_epsilon(found.event(), delta) < published


def test_the_distribution_of_the_loss_is_tighter_than_its_moments() -> None:
    found = mechanism(0.01, 4.0, 10_000).event()
    by_rdp = rdp_epsilon(found, 1e-5)
    # from below, no accountant can beat the central limit: Gaussian privacy of this mu
    mu = 0.01 * math.sqrt(10_000 * (math.exp(1 / 16) - 1))
    limit = dp_accounting.get_epsilon_gaussian(1 / mu, 1e-5)
    assert 0.98 * limit < pld_epsilon(found, 1e-5, instead_of=by_rdp) < by_rdp


@pytest.mark.parametrize(
    ("images", "batch", "noise", "epochs", "delta", "published"),
    [
        # TensorFlow Privacy, compute_dp_sgd_privacy_test
        (60_000, 150, 1.3, 15, 1e-5, 0.7242234026109595),
        (100_000, 100, 1.0, 30, 1e-7, 1.4154988495444845),
    ],
)
def test_renyi_epsilon_is_that_of_tensorflow_privacy(
    images: int, batch: int, noise: float, epochs: int, delta: float, published: float
) -> None:
    steps = epochs * images // batch
    found = rdp_epsilon(mechanism(batch / images, noise, steps).event(), delta)
    assert found == pytest.approx(published, rel=1e-9)


def test_one_step_on_everything_is_the_gaussian_mechanism() -> None:
    event = mechanism(1.0, 2.0, 1).event()
    exact = dp_accounting.get_epsilon_gaussian(2.0, 1e-5)
    assert pld_epsilon(event, 1e-5, instead_of=10) == pytest.approx(exact, abs=2e-3)


def test_a_group_of_one_is_an_image_and_a_larger_one_costs_more() -> None:
    one = mechanism(0.01, 1.5, 200)
    epsilon = pld_epsilon(one.event(), 1e-5, instead_of=10)
    assert group_epsilon(one, 1, 1e-5, epsilon=epsilon) == epsilon
    two = group_epsilon(one, 2, 1e-5, epsilon=epsilon)
    assert two is not None
    assert two > 1.5 * epsilon
    assert group_epsilon(one, 10_000, 1e-5, epsilon=epsilon) is None


def test_a_whole_group_at_every_step_is_a_gaussian_of_its_size() -> None:
    everything = mechanism(1.0, 30.0, 1)
    exact = dp_accounting.get_epsilon_gaussian(30.0 / 3, 1e-5)
    found = group_epsilon(everything, 3, 1e-5, epsilon=0.1)
    assert found == pytest.approx(exact, abs=5e-3)


def test_a_group_of_very_many_images_has_its_figure_too() -> None:
    # more ways to draw a half of them than a float can tell
    found = group_epsilon(mechanism(1e-3, 50.0, 20), 1_100, 1e-5, epsilon=1e-3)
    assert found is not None
    assert 0 < found < 5


def test_noise_is_calculated_for_an_epsilon_and_no_more_than_needed() -> None:
    def at(noise: float) -> Mechanism:
        return mechanism(0.02, noise, 50)

    noise = calibrated(at, 0.5, 1e-5)
    assert pld_epsilon(at(noise).event(), 1e-5, instead_of=10) <= 0.5
    assert pld_epsilon(at(0.96 * noise).event(), 1e-5, instead_of=10) > 0.5


def test_an_epsilon_that_no_noise_keeps_to_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"target_epsilon: no noise keeps to 0\.1"):
        # the classes' sizes alone cost more
        calibrated(lambda noise: mechanism(0.01, noise, 100, counts=1.0), 0.1, 1e-5)


def private(**changes: object) -> Train:
    privacy = {"noise_multiplier": 1.0, "delta": 1e-4}
    settings = {"architecture": "dense", "epochs": 3, "batch_size": 10, "privacy": privacy}
    return Train.model_validate(settings | changes)


def test_a_plan_counts_rates_and_steps_of_the_images_learned_from() -> None:
    budget = plan_budget(private(), [f"p{i}" for i in range(95)])
    assert budget.mechanism == mechanism(10 / 95, 1.0, 30)
    assert budget.images_per_group == 1
    assert budget.epsilon_group == budget.epsilon < budget.epsilon_rdp
    assert budget.metrics()["dp.steps"] == 30
    assert "dp.epsilon_group" in budget.metrics()


def test_weighing_the_classes_costs_privacy() -> None:
    groups = [f"p{i}" for i in range(95)]
    plain = plan_budget(private(), groups)
    weighed = plan_budget(private(class_weights="balanced"), groups)
    assert weighed.epsilon > plain.epsilon
    assert weighed.mechanism.class_count_noise == 20


def test_a_delta_that_gives_an_image_away_is_refused() -> None:
    with pytest.raises(
        BadConfig, match=r"delta: 0\.0001 would allow one of 10000 .* below 0\.0001"
    ):
        plan_budget(private(), [f"p{i}" for i in range(10_000)])


def test_warnings_say_what_the_guarantee_leaves_out() -> None:
    train = private(early_stopping=2, epochs=30)
    budget = plan_budget(train, [f"p{i // 4}" for i in range(96)])
    text = "\n".join(budget_warnings(train, budget))
    assert "one group has 4 training images" in text
    assert "validation images choose" in text
    assert "promises little" in text


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"privacy": {}}, "one of the two"),
        ({"privacy": {"noise_multiplier": 1, "target_epsilon": 1}}, "one of the two"),
        ({"privacy": {"noise_multiplier": 1}, "mixed_precision": "on"}, "overflow before"),
        ({"privacy": {"noise_multiplier": 0}}, "greater than or equal to 0.1"),
        ({"privacy": {"target_epsilon": 1, "delta": 0}}, "greater than 0"),
    ],
)
def test_settings_without_a_guarantee_are_refused(train: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Train.model_validate(train)
