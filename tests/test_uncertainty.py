"""The committee's uncertainty, by hand; and the moving threshold."""

import math
from dataclasses import replace

import numpy as np
import pytest

from aimspax_core.uncertainty import WARM_UP, WINDOW, Window, atomic_sd, check, measure

# Two members, two atoms: atom 0 differs by 2 in x (deviations ±1), atom 1 by 2, 4, 4 (±1, ±2, ±2).
FORCES = np.array([[[1.0, 5.0, 0.0], [1.0, 2.0, 2.0]], [[-1.0, 5.0, 0.0], [-1.0, -2.0, -2.0]]])
SD_0 = math.sqrt(1 / 3)
SD_1 = math.sqrt((1 + 4 + 4) / 3)


def test_atomic_sd_averages_over_members_and_components():
    assert atomic_sd(FORCES) == pytest.approx([SD_0, SD_1], rel=1e-15)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("max_atomic_sd", SD_1),
        ("mean_atomic_sd", (SD_0 + SD_1) / 2),
        ("ensemble_sd", math.sqrt((1 + 1 + 4 + 4) / 6)),
    ],
)
def test_measure(kind, expected):
    assert measure(FORCES, kind) == pytest.approx(expected, rel=1e-15)


def test_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="max_sd"):
        measure(FORCES, "max_sd")


def test_committee_of_one_has_no_uncertainty():
    assert measure(FORCES[:1], "max_atomic_sd") == 0.0


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
