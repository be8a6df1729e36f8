"""Measures by the spread of forces, against sums made by hand."""

import math

import numpy as np
import pytest
from ase import Atoms

from aimspax_core.prediction import Prediction
from aimspax_core.uncertainty.force_spread import atomic_sd
from aimspax_core.uncertainty.judged_atoms import judged
from aimspax_core.uncertainty.measures import measure_of

# Two members, two atoms: atom 0 differs by 2 in x (deviations ±1), atom 1 by 2, 4, 4 (±1, ±2, ±2).
FORCES = np.array([[[1.0, 5.0, 0.0], [1.0, 2.0, 2.0]], [[-1.0, 5.0, 0.0], [-1.0, -2.0, -2.0]]])
SD_0 = math.sqrt(1 / 3)
SD_1 = math.sqrt((1 + 4 + 4) / 3)


def test_atomic_sd_averages_over_members_and_components():
    assert atomic_sd(FORCES) == pytest.approx([SD_0, SD_1], rel=1e-15)


@pytest.mark.parametrize("name", ["max_atomic_sd", "mean_atomic_sd", "ensemble_sd"])
def test_of_one_atom_every_measure_is_that_atoms(name):
    prediction = Prediction(0.0, FORCES.mean(axis=0), np.zeros(2), FORCES)
    for atom, expected in enumerate((SD_0, SD_1)):
        one, structure = judged("free_atoms", prediction, Atoms("H2"), np.arange(2) == atom)
        assert measure_of(name).function(one, structure) == pytest.approx(expected, rel=1e-15)
        assert len(structure) == 1 and one.member_energies is prediction.member_energies


def test_of_all_atoms_nothing_is_taken():
    prediction, atoms = Prediction(0.0, FORCES.mean(axis=0), np.zeros(2), FORCES), Atoms("H2")
    assert judged("free_atoms", prediction, atoms, np.ones(2, bool)) == (prediction, atoms)
    assert judged("all", prediction, atoms, np.zeros(2, bool)) == (prediction, atoms)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max_atomic_sd", SD_1),
        ("mean_atomic_sd", (SD_0 + SD_1) / 2),
        ("ensemble_sd", math.sqrt((1 + 1 + 4 + 4) / 6)),
    ],
)
def test_a_measure_reduces_the_atoms_as_its_name_says(name, expected):
    prediction = Prediction(0.0, FORCES.mean(axis=0), np.zeros(2), FORCES)
    found = measure_of(name).function(prediction, Atoms("H2"))
    assert found == pytest.approx(expected, rel=1e-15)
