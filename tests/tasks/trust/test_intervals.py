"""Intervals of rates and bootstrap replicates."""

import numpy as np
import pytest

from tasks.trust.intervals import bootstrap_mean, percentile_interval, resample_clusters, wilson


def test_wilson_agrees_with_a_published_value() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, 95 %
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_wilson_keeps_a_width_at_the_ends() -> None:
    low, high = wilson(10, 10)
    assert high == pytest.approx(1.0) and low < 0.75
    assert wilson(0, 0) == (0.0, 1.0)


def test_replicates_keep_the_size_of_the_group_and_its_shares() -> None:
    cells = np.repeat([0, 2], [30, 70])
    drawn = resample_clusters(cells, [str(i) for i in range(100)], size=3, draws=2000, seed=1)
    assert (drawn.sum(axis=1) == 100).all()
    assert (drawn[:, 1] == 0).all()
    assert drawn[:, 0].mean() == pytest.approx(30, abs=0.5)
    # of a binomial proportion
    assert drawn[:, 0].std() == pytest.approx(np.sqrt(100 * 0.3 * 0.7), rel=0.06)


def test_replicates_draw_patients_not_their_images() -> None:
    # 25 patients of 4 images that fare alike: a sample of 25, not of 100
    cells = np.repeat([0, 1], [40, 60])
    drawn = resample_clusters(cells, [str(i // 4) for i in range(100)], size=2, draws=2000)
    shares = drawn[:, 0] / drawn.sum(axis=1)
    assert shares.std() == pytest.approx(np.sqrt(0.4 * 0.6 / 25), rel=0.06)
    assert (drawn % 4 == 0).all()


def test_one_patient_leaves_every_replicate_undefined() -> None:
    assert not resample_clusters(np.array([0, 1]), ["a", "a"], size=2, draws=5).any()


def test_an_interval_that_is_hardly_ever_defined_is_none() -> None:
    assert percentile_interval(np.array([np.nan, np.nan, np.nan, 1.0])) is None


def test_the_interval_of_a_mean_covers_it_and_narrows_with_rows() -> None:
    values = np.random.default_rng(0).normal(5, 1, 400)
    wide = bootstrap_mean(values[:25], draws=500)
    narrow = bootstrap_mean(values, draws=500)
    assert wide is not None and narrow is not None
    assert narrow[0] < values.mean() < narrow[1]
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 2


def test_one_row_has_no_interval() -> None:
    assert bootstrap_mean(np.array([1.0]), draws=100) is None
