"""How near two structures are, by features of their atoms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimspax_core.uncertainty.nearness import LEAST_KNOWN, apart, fingerprint, places, typical


def test_a_fingerprint_is_the_mean_of_each_element_whatever_the_order_of_the_atoms() -> None:
    features = np.array([[1.0, 2.0], [3.0, 6.0], [10.0, 20.0]])
    numbers = np.array([1, 1, 8])
    assert fingerprint(features, numbers) == pytest.approx([2.0, 4.0, 10.0, 20.0])
    turned = [2, 1, 0]
    assert fingerprint(features[turned], numbers[turned]) == pytest.approx([2, 4, 10, 20])


def test_typical_is_the_median_distance_to_the_nearest_other_one() -> None:
    line = np.array([[0.0], [1.0], [3.0], [6.0], [10.0]])
    assert typical(line) == pytest.approx(2.0)  # of 1, 1, 2, 3, 4


def test_few_structures_or_all_the_same_have_no_typical_distance() -> None:
    assert typical(np.arange(LEAST_KNOWN - 1.0)[:, None]) is None
    assert typical(np.ones((9, 3))) is None
    assert places([np.ones(3)], np.ones((9, 3))) == [None]
    assert places([np.ones(3)], np.array([])) == [None]


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_distances_do_not_depend_on_the_unit_of_the_features(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, asked = rng.normal(size=(8, 50)), rng.normal(size=(1, 50))
    (one,), (other,) = places(list(asked), known), places(list(scale * asked), scale * known)
    assert one is not None
    assert other is not None
    assert other.distance == pytest.approx(one.distance, rel=1e-3)


def test_sketches_are_as_far_apart_as_the_structures_are() -> None:
    rng = np.random.default_rng(1)
    known = rng.normal(size=(10, 300))
    asked = list(rng.normal(size=(20, 300)))
    found = places(asked, known)
    ratios = [
        apart(one.sketch, other.sketch) / np.linalg.norm(a - b)
        for n, (one, a) in enumerate(zip(found, asked, strict=True))
        for other, b in zip(found[:n], asked[:n], strict=True)
        if one is not None and other is not None
    ]
    assert len(ratios) == 190
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.06)
    assert np.std(ratios) < 0.16


def test_a_sketch_does_not_depend_on_what_is_known_and_tells_small_differences() -> None:
    rng = np.random.default_rng(2)
    features = 1000.0 + rng.normal(scale=0.1, size=(14, 300))
    asked = [features[0], features[1]]
    (first, _), (second, other) = (places(asked, features[2:n]) for n in (10, 13))
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.unit != second.unit
    assert apart(first.sketch, second.sketch) == 0.0
    assert apart(second.sketch, other.sketch) / second.unit == pytest.approx(1.0, abs=0.3)
