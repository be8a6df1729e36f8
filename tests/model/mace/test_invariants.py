"""Features of atoms that no rotation changes."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule

from aimspax_core.model.mace import build
from aimspax_core.model.mace.invariants import invariants
from tests.model.mace.test_kernel import CONSTANTS, ELEMENTS, settings


@pytest.mark.parametrize(("max_l", "reduced"), [(1, False), (0, True)])
def test_no_rotation_changes_them_and_every_displacement_does(max_l: int, reduced: bool) -> None:
    shape = {"max_L": max_l, "use_reduced_cg": reduced}
    model = build.build(settings("auto", shape), ELEMENTS, CONSTANTS, 1)
    water = molecule("H2O")
    turned, moved = water.copy(), water.copy()
    turned.rotate(50, (1, 2, 3))
    turned.translate((3, 2, 1))
    moved.positions[0, 0] += 0.1
    copper = bulk("Cu", cubic=True)
    first, same, other, cell = invariants(model, [water, turned, moved, copper])
    assert first.shape == (3, 8)  # two layers of four channels
    assert cell.shape == (4, 8)
    assert same == pytest.approx(first, abs=1e-8)
    assert np.abs(other - first).max() > 1e-5
    assert first[1] == pytest.approx(first[2], abs=1e-8), "the two hydrogens of water are alike"
    assert np.allclose(cell, cell[0]), "as are all atoms of copper"
