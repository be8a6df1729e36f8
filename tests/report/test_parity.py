"""Labels beside what the committee had said of them, as pairs and as figures."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from aimspax_core.report.compared import (
    Compared,
    dipole_pairs,
    energy_pairs,
    force_pairs,
    mean_error,
    thinned,
)
from aimspax_core.report.parity import parity_figure

WATER, FORCES = ("O", "H", "H"), np.arange(9.0).reshape(3, 3)


def compared(energy: float, dipole: float | None = None) -> Compared:
    """Water whose forces were said 0.1 eV/Å too large, its dipole 0.2 e·Å."""
    true = None if dipole is None else np.array([0.0, 0.0, dipole])
    said = None if true is None else true + 0.2
    return Compared(WATER, FORCES + 0.1, FORCES, energy + 3.0, energy, said, true)


def test_forces_are_told_by_element_those_of_the_label_first() -> None:
    pairs = force_pairs([compared(1.0), compared(2.0)])
    assert [(kind, len(found)) for kind, found in pairs.items()] == [("H", 12), ("O", 6)]
    np.testing.assert_allclose(pairs["O"][:3], [[0.0, 0.1], [1.0, 1.1], [2.0, 2.1]])
    assert mean_error(pairs["H"]) == pytest.approx(0.1)


@pytest.mark.parametrize("most", [30, 60, 90, 180, 1000])
def test_of_many_forces_some_of_each_direction_are_shown(most: int) -> None:
    shown = thinned(force_pairs([compared(1.0)] * 20), most)
    assert sum(len(found) for found in shown.values()) <= most
    for found in shown.values():
        assert {*(found[:, 0] % 3)} == {0.0, 1.0, 2.0}  # x, y and z, as FORCES has them


def test_a_constant_error_of_the_energy_is_not_shown() -> None:
    pairs = energy_pairs([compared(1.0), compared(4.0)])
    np.testing.assert_allclose(pairs, [[-500.0, -500.0], [500.0, 500.0]])


def test_dipoles_are_told_of_structures_that_have_them() -> None:
    assert dipole_pairs([compared(1.0)]).shape == (0, 2)
    pairs = dipole_pairs([compared(1.0), compared(1.0, dipole=0.5)])
    np.testing.assert_allclose(pairs, [[0.0, 0.2], [0.0, 0.2], [0.5, 0.7]])


@pytest.mark.parametrize(("dipole", "parts"), [(None, 2), (0.5, 3)])
def test_dipoles_have_a_figure_where_they_are_learnt(dipole: float | None, parts: int) -> None:
    figure = parity_figure([compared(1.0, dipole), compared(2.0, dipole)])
    assert isinstance(figure, Figure)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == parts
    for axes in shown:
        assert axes.get_xlim() == axes.get_ylim(), "equal is a diagonal"
