"""GFN-xTB, against tblite's own interface in its own units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.units import Bohr, Hartree, kB
from tblite.interface import Calculator

from aimspax_core.errors import LabelError
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.section import TbliteReference


def engine(**changes: Any) -> TbliteEngine:
    return TbliteEngine(TbliteReference(engine="tblite", **changes))


def bent(name: str = "CH3OH", seed: int = 0) -> Atoms:
    atoms = molecule(name)
    atoms.rattle(0.05, seed=seed)
    return atoms


def direct(
    atoms: Atoms, method: str = "GFN2-xTB", charge: int = 0, uhf: int = 0, kelvin: float = 300.0
) -> dict[str, Any]:
    """tblite without ASE: Hartree and Bohr."""
    calculator = Calculator(
        method, atoms.numbers, atoms.positions / Bohr, charge, uhf,
        atoms.cell.array / Bohr if atoms.pbc.any() else None,
        atoms.pbc if atoms.pbc.any() else None,
    )  # fmt: skip
    calculator.set("verbosity", 0)
    calculator.set("temperature", kelvin * kB / Hartree)
    result = calculator.singlepoint()
    return {
        "energy": result["energy"] * Hartree,
        "forces": -result["gradient"] * Hartree / Bohr,
        "virial": result["virial"] * Hartree,
    }


@pytest.mark.parametrize("method", ["GFN2-xTB", "GFN1-xTB"])
def test_energies_and_forces_are_tblites_own(method: str) -> None:
    atoms = bent()
    found, expected = engine(method=method).label(atoms), direct(atoms, method)
    assert found.energy == pytest.approx(expected["energy"], abs=1e-9)
    np.testing.assert_allclose(found.forces, expected["forces"], atol=1e-9)
    assert found.stress is None


def test_forces_are_the_slope_of_the_energy() -> None:
    atoms, step, tight = bent("H2O"), 1e-3, engine(accuracy=0.01)
    forces = tight.label(atoms).forces
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * step
        energies.append(tight.label(moved).energy)
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(forces[1, 2], abs=1e-4)


def test_a_crystal_has_a_stress_too() -> None:
    atoms = bulk("C", cubic=True)
    atoms.rattle(0.02, seed=1)
    found = engine(method="GFN1-xTB").label(atoms)
    expected = direct(atoms, "GFN1-xTB")
    assert found.energy == pytest.approx(expected["energy"], abs=1e-8)
    assert found.stress is not None
    np.testing.assert_allclose(found.stress, expected["virial"] / atoms.get_volume(), atol=1e-9)


SOLIDS = {"Si": bulk("Si", cubic=True), "diamond": bulk("C"), "NaCl": bulk("NaCl", "rocksalt", 5.6)}


@pytest.mark.parametrize("method", ["GFN2-xTB", "GFN1-xTB"])
def test_stress_is_the_slope_of_the_energy_in_strain(method: str) -> None:
    """ASE's sign and units (eV/Å³), along the diagonal and off it.

    Two atoms at Γ alone answer to strain in such a curved way that the step has to be small.
    """
    atoms, tight, step = SOLIDS["diamond"].copy(), engine(method=method, accuracy=0.01), 1e-4
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell.array @ np.diag([1.01, 0.99, 1.03]), scale_atoms=True)
    stress = tight.label(atoms).stress
    assert stress is not None
    for i, j in ((2, 2), (0, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(tight.label(moved).energy)
        slope = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
        assert slope == pytest.approx(stress[i, j], abs=2e-4)


@pytest.mark.parametrize("method", ["GFN2-xTB", "GFN1-xTB"])
@pytest.mark.parametrize("name", ["Si", "NaCl"])
def test_perfect_crystals_have_no_forces_but_a_stress(method: str, name: str) -> None:
    found = engine(method=method).label(SOLIDS[name])
    np.testing.assert_allclose(found.forces, 0, atol=1e-3)
    assert found.stress is not None
    np.testing.assert_allclose(found.stress, np.eye(3) * found.stress[0, 0], atol=1e-4)
    assert abs(found.stress[0, 0]) > 1e-4


def test_its_calculator_has_the_labels_stress() -> None:
    atoms, used = SOLIDS["diamond"].copy(), engine(method="GFN1-xTB")
    expected = used.label(atoms).stress
    atoms.calc = used.calculator()
    np.testing.assert_allclose(atoms.get_stress(voigt=False), expected, atol=1e-10)


@pytest.mark.parametrize(("charge", "spin"), [(1, 2), (-1, 2), (0, 3)])
def test_charge_and_multiplicity_reach_the_engine(charge: int, spin: int) -> None:
    atoms = bent("O2" if spin == 3 else "H2O")
    found = engine(charge=charge, spin=spin).label(atoms).energy
    assert found == pytest.approx(direct(atoms, charge=charge, uhf=spin - 1)["energy"], abs=1e-9)
    assert found != pytest.approx(engine().label(atoms).energy, abs=0.01)


def test_a_structures_own_charge_and_multiplicity_come_first() -> None:
    atoms = bent("H2O")
    atoms.info.update(charge=1.0, spin=2.0)
    expected = engine(charge=1, spin=2).label(bent("H2O")).energy
    assert engine().label(atoms).energy == pytest.approx(expected, abs=1e-11)
    driven = atoms.copy()
    driven.calc = engine().calculator()
    assert driven.get_potential_energy() == pytest.approx(expected, abs=1e-11)


def test_electronic_temperature_is_in_kelvin() -> None:
    atoms = bent("O2")
    found = engine(electronic_temperature=5000.0).label(atoms).energy
    assert found == pytest.approx(direct(atoms, kelvin=5000.0)["energy"], abs=1e-9)


def test_the_answer_does_not_depend_on_what_was_computed_before() -> None:
    """A label is identified by its structure alone. tblite itself differs in the last digits."""
    used = engine()
    for seed in range(3):
        used.label(bent(seed=seed))
    expected = engine().label(bent(seed=9)).energy
    assert used.label(bent(seed=9)).energy == pytest.approx(expected, abs=1e-11)
    driver, fresh = engine().calculator(), engine().calculator()
    atoms = bent(seed=9)
    atoms.calc = driver
    atoms.get_forces()
    atoms.positions = bent(seed=8).positions
    alone = bent(seed=8)
    alone.calc = fresh
    np.testing.assert_allclose(atoms.get_forces(), alone.get_forces(), atol=1e-12)


def test_the_structure_is_left_as_it_was() -> None:
    atoms = bent()
    before = atoms.copy()
    engine().label(atoms)
    assert atoms == before
    assert atoms.calc is None
    assert atoms.info == {}


@pytest.mark.parametrize(
    ("atoms", "settings", "text"),
    [
        (bent(), {"max_iterations": 1}, "not converged in 1 cycles"),
        (Atoms("H2"), {}, "interatomic distances"),
        (Atoms("Es"), {}, "No support for elements"),
    ],
)
def test_what_would_fail_again_is_not_transient(
    atoms: Atoms, settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(LabelError, match=text) as found:
        engine(**settings).label(atoms)
    assert not found.value.transient


def test_provenance_says_what_it_was() -> None:
    provenance = engine().label(bent("H2O")).provenance
    assert (provenance["engine"], provenance["method"]) == ("tblite", "GFN2-xTB")
    assert provenance["wall_s"] > 0


def test_a_state_that_a_structure_cannot_have_is_no_label() -> None:
    """tblite answers all the same: a frame of a dataset, or of a `gaussian.com`, fails alone."""
    atoms = molecule("CH3")
    atoms.info["spin"] = 1
    with pytest.raises(LabelError, match="multiplicity") as failed:
        engine().label(atoms)
    assert not failed.value.transient
    atoms.info["spin"] = 2
    assert np.isfinite(engine().label(atoms).energy)
