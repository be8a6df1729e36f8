"""Calibration, on heteroscedastic data whose truth is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from aimspax_core.uncertainty.calibration import (
    FOR_A_CURVE,
    LEAST,
    Calibration,
    calibrated,
    rank_correlation,
    reliability,
    weights_of_strata,
)

MEAN_OF_HALF_NORMAL = math.sqrt(2 / math.pi)


def data(count: int, truth, seed: int = 0):
    """Spreads over more than a decade; errors |N(0, 1)| times a width that grows with the spread.

    `truth(s)` is the mean error at a spread.
    """
    rng = np.random.default_rng(seed)
    spreads = rng.lognormal(math.log(0.1), 0.7, count)
    noise = np.abs(rng.normal(size=count)) / MEAN_OF_HALF_NORMAL
    return spreads, truth(spreads) * noise


def proportional(spreads):
    return 1.7 * spreads


def saturating(spreads):
    """Small spreads are overconfident, as of committees whose members have seen the same data."""
    return 0.05 + 0.6 * spreads


def by_quartile(expected, errors):
    """The mean of expected and of true error, in the order of the expected one."""
    quartiles = np.array_split(np.argsort(expected), 4)
    return [(expected[rows].mean(), errors[rows].mean()) for rows in quartiles]


def test_the_factor_is_that_of_the_data():
    found = calibrated(*data(4000, proportional))
    assert found.factor == pytest.approx(1.7, rel=0.03)
    few = [calibrated(*data(LEAST, proportional, seed)).factor for seed in range(200)]
    assert np.mean(few) == pytest.approx(1.7, rel=0.03), "without a bias"


@pytest.mark.parametrize("truth", [proportional, saturating])
def test_on_other_points_expected_and_true_errors_agree_by_quartile(truth):
    found = calibrated(*data(1000, truth))
    spreads, errors = data(4000, truth, seed=1)
    expected = found.expected(spreads)
    assert errors.mean() / expected.mean() == pytest.approx(1.0, abs=0.05)
    quartiles = by_quartile(expected, errors)
    assert [true for _, true in quartiles] == sorted(true for _, true in quartiles)
    for said, true in quartiles:
        assert true / said == pytest.approx(1.0, abs=0.15)


def test_a_straight_line_is_wrong_where_a_curve_is_right():
    spreads, errors = data(4000, saturating)
    line = calibrated(spreads, errors)
    line = Calibration(line.points, line.factor, line.spearman)
    quartiles = by_quartile(line.expected(spreads), errors)
    assert quartiles[0][1] > 1.5 * quartiles[0][0]


def test_few_points_have_a_straight_line_and_more_a_rising_curve():
    assert calibrated(*data(FOR_A_CURVE - 1, proportional)).nodes == ()
    nodes = calibrated(*data(FOR_A_CURVE, proportional)).nodes
    assert [at for at, _ in nodes] == sorted(at for at, _ in nodes)
    assert [error for _, error in nodes] == sorted(error for _, error in nodes)


def hardly_related(spreads):
    """Of a committee that does not know where it is wrong."""
    return 0.2 + 0.05 * spreads


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_keeps_the_order_of_the_spreads_also_where_errors_do_not_rise(seed):
    spreads, errors = data(FOR_A_CURVE, hardly_related, seed)
    expected = calibrated(spreads, errors).expected(np.sort(spreads))
    assert (np.diff(expected) > 0).all()
    assert expected.mean() == pytest.approx(errors.mean(), rel=0.1)


@pytest.mark.parametrize("count", [30, 400])
@pytest.mark.parametrize("error", [0.01, 0.08, 0.3, 2.0])
def test_the_spread_of_an_error_is_the_largest_with_which_no_more_is_expected(count, error):
    found = calibrated(*data(count, saturating))
    spread = found.spread_of(error)
    assert found.expected(spread) == pytest.approx(error)
    assert found.expected(spread * 1.01) > error


def test_on_a_level_part_of_the_curve_it_is_the_end_of_it():
    level = Calibration(200, 1.0, 0.5, ((0.1, 0.2), (0.3, 0.2), (0.5, 0.6)))
    assert level.spread_of(0.2) == pytest.approx(0.3)
    assert level.spread_of(1.2) == pytest.approx(1.0)


def test_points_that_were_not_selected_are_weighed_in():
    """A committee labels the quarter of highest spread, and a few of all."""
    spreads, errors = data(4000, saturating)
    threshold = np.quantile(spreads, 0.75)
    above = spreads > threshold
    labelled = above | (np.random.default_rng(3).random(4000) < 0.05)
    weights = weights_of_strata(above[labelled], int(above.sum()), int((~above).sum()))
    true = errors.sum() / spreads.sum()
    weighed = calibrated(spreads[labelled], errors[labelled], weights).factor
    as_they_are = calibrated(spreads[labelled], errors[labelled]).factor
    assert abs(weighed / true - 1) < 0.1
    assert abs(as_they_are / true - 1) > 0.15


@pytest.mark.parametrize(
    ("above", "checks"), [([True] * 3, (9, 9)), ([False] * 3, (9, 9)), ([True, False], (0, 0))]
)
def test_where_a_stratum_is_unknown_all_points_weigh_the_same(above, checks):
    assert weights_of_strata(above, *checks).tolist() == [1.0] * len(above)


def test_one_point_never_stands_for_all():
    weights = weights_of_strata([True] * 50 + [False], 50, 100_000)
    assert weights.tolist() == [1.0] * 50 + [10.0]


@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_correlated_as_by_scipy(seed):
    one, other = np.random.default_rng(seed).integers(0, 6, (2, 40))
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert rank_correlation([1.0, 1.0], [1.0, 2.0]) is None


def test_ranks_are_those_within_groups():
    rng = np.random.default_rng(0)
    groups, noise = np.repeat(range(40), 5), rng.normal(size=(2, 200))
    one, other = 10.0 * groups + noise
    assert rank_correlation(one, other) > 0.95
    assert abs(rank_correlation(one, other, groups=groups)) < 0.2
    assert rank_correlation(one, -one, groups=groups) == pytest.approx(-1.0)
    assert rank_correlation(one, other, groups=np.arange(200)) is None


def test_ranks_are_weighed_as_if_points_were_there_several_times():
    one, other = np.random.default_rng(1).normal(size=(2, 12))
    times = np.arange(12) % 4 + 1
    several = rank_correlation(np.repeat(one, times), np.repeat(other, times))
    assert rank_correlation(one, other, times) == pytest.approx(several)


def test_nothing_is_fitted_to_spreads_of_zero():
    assert calibrated([0.0, 0.0], [0.1, 0.2]) is None
    assert calibrated([], []) is None


def test_bins_of_a_reliability_diagram_have_equal_weight():
    spreads, errors = data(800, proportional)
    found = reliability(spreads, errors)
    assert [one.points for one in found] == [100] * 8
    assert sum(one.points * one.error for one in found) == pytest.approx(errors.sum())


def test_a_calibration_becomes_json_and_comes_back():
    found = calibrated(*data(200, saturating))
    assert Calibration.of(json.loads(json.dumps(found.as_json()))) == found
