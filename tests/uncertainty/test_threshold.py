"""The moving threshold of the uncertainty."""

import math
from dataclasses import replace

import numpy as np
import pytest

from aimspax_core.uncertainty.threshold import WARM_UP, WINDOW, Window, check


def test_no_threshold_during_warm_up():
    window = Window().extend([1.0] * WARM_UP)
    assert window.threshold(0.0) is None
    assert window.add(1.0).threshold(0.0) == 1.0


def test_threshold_is_the_mean_with_a_margin():
    window = Window().extend(range(20))
    assert window.threshold(-0.1) == pytest.approx(9.5 * 0.9, rel=1e-15)


def test_threshold_forgets_what_is_older_than_the_window():
    window = Window().extend([1000.0] * 5).extend([2.0] * WINDOW)
    assert window.threshold(0.0) == 2.0
    assert (len(window.values), window.count) == (WINDOW, WINDOW + 5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_threshold_ignores_what_is_not_finite(bad):
    window = Window().extend([1.0] * 11)
    assert window.add(bad) == window


def test_nan_never_crosses():
    window = Window().extend([1.0] * 11)
    assert check(window, math.nan, 0.0) == (window, 1.0, False)


def test_frozen_threshold_does_not_move():
    window = replace(Window().extend([1.0] * 11), frozen=1.5)
    window, threshold, crossed = check(window, 100.0, c_x=-0.1)
    assert (threshold, crossed) == (1.5, True)
    assert window.values[-1] == 100.0


def test_check_counts_the_value_before_it_renews_the_threshold():
    window = Window().extend([1.0] * WARM_UP)
    window, threshold, crossed = check(window, 12.0, c_x=0.0)
    assert (threshold, crossed) == (2.0, True)


def test_nothing_crosses_during_warm_up():
    _, threshold, crossed = check(Window(), 1e9, c_x=0.0)
    assert (threshold, crossed) == (None, False)


def test_adding_one_by_one_or_at_once_is_the_same():
    values = np.random.default_rng(0).random(500)
    one_by_one = Window()
    for value in values:
        one_by_one = one_by_one.add(value)
    assert one_by_one == Window().extend(values)
