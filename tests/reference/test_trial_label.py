"""A wrong engine is found out by its own energies."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import Bohr, Hartree

from aimspax_core.errors import LabelError
from aimspax_core.labels.label import Label
from aimspax_core.reference import trial_label as trials
from aimspax_core.reference.trial_label import diatomic, hold_against_energies, off_balance


class Engine:
    """EMT, with what it says multiplied by a factor."""

    def __init__(self, forces: float = 1.0, stress: float = 1.0, order: slice = slice(None)):
        self.forces, self.stress, self.order = forces, stress, order
        self.asked = 0

    def label(self, atoms: Atoms) -> Label:
        self.asked += 1
        atoms = atoms.copy()
        atoms.calc = EMT()
        forces = self.forces * atoms.get_forces()[self.order]
        stress = self.stress * atoms.get_stress(voigt=False) if atoms.pbc.all() else None
        return Label(float(atoms.get_potential_energy()), forces, stress)


CRYSTAL = off_balance(bulk("Cu", cubic=True), strained=True)


def test_a_right_engine_agrees_with_its_energies():
    found = hold_against_energies(Engine(), CRYSTAL, stress=True).comparisons
    assert [(c.what, c.agrees) for c in found] == [("force", True), ("stress", True)]


def test_what_is_compared_is_not_nothing():
    found = hold_against_energies(Engine(), CRYSTAL, stress=True).comparisons
    assert all(abs(c.found) > 2 * c.noise for c in found)


@pytest.mark.parametrize(
    ("factor", "hint"),
    [(-1, "sign is the other way round"), (Bohr / Hartree, "looks like Hartree/bohr"),
     (Bohr, "unit of length looks like bohr")],
)  # fmt: skip
def test_a_wrong_force_is_found_and_explained(factor, hint):
    (force,) = hold_against_energies(Engine(forces=factor), diatomic(8)).comparisons
    assert not force.agrees
    assert hint in str(force)


def test_atoms_in_another_order_are_found():
    wrong = Engine(order=slice(None, None, -1))
    (force,) = hold_against_energies(wrong, diatomic(6)).comparisons
    assert not force.agrees


def test_a_stress_of_the_wrong_sign_is_found():
    _, stress = hold_against_energies(Engine(stress=-1), CRYSTAL, stress=True).comparisons
    assert not stress.agrees
    assert "sign is the other way round" in str(stress)


def test_a_stress_that_is_needed_must_be_there():
    class Without(Engine):
        def label(self, atoms: Atoms) -> Label:
            answer = super().label(atoms)
            return Label(answer.energy, answer.forces)

    with pytest.raises(LabelError, match="no stress"):
        hold_against_energies(Without(), CRYSTAL, stress=True)


def test_a_slow_engine_is_asked_once(monkeypatch):
    monkeypatch.setattr(trials, "LONG_S", 0.0)
    engine = Engine()
    assert hold_against_energies(engine, diatomic(1)).comparisons == ()
    assert engine.asked == 1


def test_no_two_components_of_the_force_are_the_same():
    atoms = diatomic(7)
    atoms.calc = EMT()
    forces = np.abs(atoms.get_forces()[0])
    assert np.diff(np.sort(forces)).min() > 0.1
