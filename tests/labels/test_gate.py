"""What may reach an engine, and what may enter a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.data import covalent_radii

from aimspax_core.errors import LabelError, LabelFailure, StructureError
from aimspax_core.labels.gate import (
    EnergyGate,
    check_label,
    check_stress,
    check_structure,
    without_unfit,
)
from aimspax_core.labels.label import Label
from aimspax_core.settings.engines import Gate

GATE = Gate()
CH = 0.5 * (covalent_radii[6] + covalent_radii[1])


def pair(distance: float, **cell: object) -> Atoms:
    return Atoms("CH", [[0, 0, 0], [0, 0, distance]], **cell)


@pytest.mark.parametrize("atoms", [molecule("C6H6"), molecule("H2"), bulk("Cu"), Atoms("He")])
def test_what_is_physical_passes(atoms: Atoms) -> None:
    check_structure(atoms, GATE)


def test_the_nearest_distance_is_a_share_of_the_covalent_radii() -> None:
    check_structure(pair(CH + 1e-6), GATE)
    with pytest.raises(
        StructureError, match=r"atoms \d \([CH]\) and \d \([CH]\) are 0\.53 Å apart"
    ):
        check_structure(pair(CH - 1e-3), GATE)


def test_forces_on_held_atoms_are_looked_at_too() -> None:
    atoms = molecule("H2O")
    atoms.set_constraint(FixAtoms([0]))
    forces = np.zeros((3, 3))
    forces[0, 2] = GATE.max_force - 1
    check_label(atoms, Label(0.0, forces), GATE)
    forces[0, 2] = GATE.max_force + 1
    with pytest.raises(LabelError) as found:
        check_label(atoms, Label(0.0, forces), GATE)
    assert found.value.kind is LabelFailure.FORCE


def test_the_worst_pair_is_named() -> None:
    atoms = Atoms("HHCC", [[0, 0, 0], [0, 0, 0.29], [9, 0, 0], [9, 0, 0.2]])
    with pytest.raises(StructureError, match=r"\d \(C\) and \d \(C\) are 0\.20 Å apart; 0\.76 Å"):
        check_structure(atoms, GATE)


def test_images_across_the_boundary_count() -> None:
    far = pair(9.8)
    check_structure(far, GATE)
    far.set_cell([10, 10, 10])
    check_structure(far, GATE)
    far.pbc = True
    with pytest.raises(StructureError, match=r"0\.20 Å apart"):
        check_structure(far, GATE)


def test_an_atom_may_be_too_close_to_its_own_image() -> None:
    with pytest.raises(StructureError, match=r"atoms 0 \(Cu\) and 0 \(Cu\)"):
        check_structure(Atoms("Cu", cell=[1, 9, 9], pbc=True), GATE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_coordinates_must_be_numbers_even_without_a_nearest_distance(value: float) -> None:
    wrong = pair(1.0, cell=[9, 9, 9], pbc=True)
    wrong.cell[0, 0] = value
    for atoms in (pair(value), wrong):
        with pytest.raises(StructureError, match="not a finite number"):
            check_structure(atoms, Gate(min_distance=0))


def test_zero_switches_the_nearest_distance_off() -> None:
    check_structure(pair(0.01), Gate(min_distance=0))


def label(**changes: object) -> Label:
    values = {"energy": -1.0, "forces": np.full((2, 3), 0.1), "stress": np.zeros((3, 3))}
    return Label(**{**values, **changes})  # type: ignore[arg-type]


def spoilt(shape: tuple[int, ...], value: float) -> np.ndarray:
    made = np.zeros(shape)
    made[-1, -1] = value
    return made


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["energy", "forces", "stress"])
def test_labels_must_be_numbers(what: str, value: float) -> None:
    wrong = {
        "energy": value,
        "forces": spoilt((2, 3), value),
        "stress": spoilt((3, 3), value),
    }[what]
    with pytest.raises(LabelError, match="not finite") as found:
        check_label(pair(1.0), label(**{what: wrong}), GATE)
    assert not found.value.transient
    assert found.value.kind is LabelFailure.ANSWER


def test_there_must_be_a_force_for_every_atom() -> None:
    with pytest.raises(LabelError, match=r"shape \(3, 3\) for 2 atoms"):
        check_label(pair(1.0), label(forces=np.zeros((3, 3))), GATE)


def test_the_length_of_a_force_has_a_limit() -> None:
    at_limit = np.zeros((2, 3))
    at_limit[1] = [30.0, 40.0, 0.0]
    check_label(pair(1.0), label(forces=at_limit), Gate(max_force=50.0))
    with pytest.raises(
        LabelError, match=r"a force of 50\.0 eV/Å; GATE\.max_force is 49\.9"
    ) as found:
        check_label(pair(1.0), label(forces=at_limit), Gate(max_force=49.9))
    assert found.value.kind is LabelFailure.FORCE


CELL = {"cell": [9, 9, 9], "pbc": True}


def test_stress_may_be_missing_unless_the_models_train_on_it() -> None:
    check_label(pair(1.0, **CELL), label(stress=None), GATE)
    with pytest.raises(LabelError, match="no stress of a periodic structure") as found:
        check_label(pair(1.0, **CELL), label(stress=None), GATE, stress=True)
    assert not found.value.transient


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_what_is_not_periodic_in_three_directions_needs_no_stress(pbc: object) -> None:
    check_label(pair(1.0, cell=[9, 9, 9], pbc=pbc), label(stress=None), GATE, stress=True)


@pytest.mark.parametrize(
    ("stress", "text"),
    [
        (np.zeros(6), r"shape \(6,\); it should be \(3, 3\)"),
        (np.diag([1.0, np.nan, 1.0]), "not finite"),
        (np.eye(3, k=1), r"not symmetric: by 1\.0e\+00 eV/Å³"),
    ],
)
def test_stress_must_be_a_finite_symmetric_matrix(stress: np.ndarray, text: str) -> None:
    with pytest.raises(LabelError, match=text) as found:
        check_label(pair(1.0, **CELL), label(stress=stress), GATE, stress=True)
    assert not found.value.transient


def test_rounding_in_the_stress_is_let_pass() -> None:
    check_label(pair(1.0, **CELL), label(stress=np.eye(3, k=1) * 1e-8), GATE, stress=True)


def test_a_stored_stress_may_be_judged_alone() -> None:
    check_stress(pair(1.0, **CELL), label(forces=np.full((2, 3), 1e9)))
    with pytest.raises(LabelError, match="not a finite number"):
        check_stress(pair(1.0, **CELL), label(stress=np.full((3, 3), np.inf)))


# ---- the right atoms in the right order -------------------------------------------------------


def test_atoms_of_an_answer_may_be_in_other_images_and_rounded() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    answered = atoms.copy()
    answered.positions += atoms.cell[0] + 4e-9
    check_label(atoms, Label(-1.0, np.zeros((2, 3)), structure=answered), Gate())


def test_another_cell_in_an_answer_is_refused() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    answered = bulk("NaCl", "rocksalt", a=5.7)
    with pytest.raises(LabelError, match="another cell"):
        check_label(atoms, Label(-1.0, np.zeros((2, 3)), structure=answered), Gate())


# ---- energies of the same composition ---------------------------------------------------------


def energies(*values: float, limit: float = 2.0) -> EnergyGate:
    gate = EnergyGate(Gate(max_energy_deviation=limit))
    for value in values:
        gate.admit(molecule("H2O"), value)
    return gate


@pytest.mark.key("Gate", "max_energy_deviation")
def test_an_energy_far_from_those_of_the_same_composition_is_refused() -> None:
    gate = energies(-30.0, -30.5, -29.5)
    with pytest.raises(LabelError, match=r"\+2\.33 eV/atom from the median of 3 labels of H2O"):
        gate.admit(molecule("H2O"), -23.0)
    gate.admit(molecule("H2O"), -25.0)


def test_a_few_bad_energies_at_first_do_not_keep_all_others_out() -> None:
    """Atoms of -5 and then only of -9 eV: the first two are wrong, and soon outvoted."""
    gate, refused = energies(-15.0, -15.0), 0
    for _ in range(20):
        try:
            gate.admit(molecule("H2O"), -27.0)
        except LabelError:
            refused += 1
    assert 0 < refused <= 2


def test_single_outliers_stay_refused() -> None:
    gate = energies(-30.0, -30.0, -30.0)
    for _ in range(3):
        with pytest.raises(LabelError):
            gate.admit(molecule("H2O"), 1e6)
        gate.admit(molecule("H2O"), -30.0)


def test_compositions_are_judged_apart_whatever_the_order_of_atoms() -> None:
    gate = energies(-30.0, -30.0, -30.0)
    gate.admit(molecule("CH4"), -900.0)
    with pytest.raises(LabelError):
        gate.admit(molecule("H2O")[[2, 1, 0]], -900.0)


def test_fewer_than_three_energies_judge_nobody() -> None:
    energies(-30.0, 500.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"forces": np.ones((2, 3), complex)},
        {"forces": np.full((2, 3), "0.1")},
        {"forces": np.full((2, 3), None)},
        {"forces": [[0.1, 0.2, 0.3], [0.1]]},
        {"forces": np.ones((2, 3), bool)},
        {"forces": np.ones((6,))},
        {"energy": 1.0 + 1.0j},
        {"energy": "-1.0"},
        {"energy": [-1.0, -2.0]},
        {"energy": None},
        {"stress": np.ones((3, 3), complex)},
    ],
)
def test_an_answer_that_is_not_made_of_real_numbers_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(LabelError) as caught:
        check_label(pair(CH), label(**{"forces": np.ones((2, 3)), **changes}), GATE)
    assert caught.value.kind is LabelFailure.ANSWER
    assert next(iter(changes)) in str(caught.value)


def test_integers_are_numbers() -> None:
    check_label(pair(CH), label(energy=-1, forces=np.ones((2, 3), int)), GATE)


def still(atoms: Atoms) -> Label:
    return Label(-1.0, np.zeros((len(atoms), 3)))


def moved(atoms: Atoms, shift: float = 0.01) -> Atoms:
    atoms.rattle(shift, seed=1)
    return atoms


@pytest.mark.parametrize(
    "atoms",
    [
        molecule("H2O"),
        molecule("C6H6"),
        molecule("CO"),
        pair(CH),
        moved(bulk("Cu") * (2, 2, 2)),
        moved(bulk("NaCl", "rocksalt", 5.64) * (2, 2, 2), 1e-3),
        moved(bulk("Si") * (2, 2, 2)),
        moved(bulk("Si", cubic=True)),
    ],
    ids=lambda atoms: str(atoms.symbols),
)
def test_forces_that_are_all_zero_without_a_reason_are_refused(atoms: Atoms) -> None:
    with pytest.raises(LabelError) as caught:
        check_label(atoms, still(atoms), GATE)
    assert caught.value.kind is LabelFailure.ANSWER


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("He"),
        bulk("Cu"),
        bulk("Cu", cubic=True) * (2, 2, 2),
        bulk("Si"),
        bulk("Si", cubic=True),
        bulk("NaCl", "rocksalt", 5.64) * (2, 1, 1),
        bulk("GaAs", "zincblende", 5.65),
        bulk("CsCl", "cesiumchloride", 4.12),
        Atoms("Ar2", [[0, 0, 0], [0, 0, 12]]),
    ],
    ids=lambda atoms: str(atoms.symbols),
)
def test_forces_that_symmetry_or_distance_makes_zero_pass(atoms: Atoms) -> None:
    check_label(atoms, still(atoms), GATE)


def test_forces_that_are_nearly_zero_pass() -> None:
    """A relaxed structure has forces that are small, not gone."""
    water = molecule("H2O")
    check_label(water, Label(-1.0, np.full((3, 3), 1e-9)), GATE)


# ---- beside energy, forces and stress -------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "no dipole"),
        ({"dipole": np.zeros(3)}, "no Hirshfeld ratios"),
        ({"dipole": np.zeros(2), "hirshfeld_ratios": np.ones(2)}, r"dipole of shape \(2,\)"),
        ({"dipole": np.full(3, np.nan), "hirshfeld_ratios": np.ones(2)}, "not finite"),
        ({"dipole": np.zeros(3), "hirshfeld_ratios": np.ones(3)}, "ratios of shape"),
    ],
)
def test_a_label_has_what_is_trained_on(changes: dict[str, Any], says: str) -> None:
    wanted = ("dipole", "hirshfeld_ratios")
    with pytest.raises(LabelError, match=says):
        check_label(pair(1.0), label(**changes), GATE, beside=wanted)
    full = {"dipole": np.zeros(3), "hirshfeld_ratios": np.ones(2)}
    check_label(pair(1.0), label(**full), GATE, beside=wanted)
    check_label(pair(1.0), label(), GATE)


def test_what_nobody_trains_on_costs_no_label() -> None:
    unfit = label(dipole=np.zeros(2), hirshfeld_ratios=np.array([0.5, np.nan]))
    check_label(pair(1.0), unfit, GATE)
    kept = without_unfit(pair(1.0), unfit)
    assert (kept.dipole, kept.hirshfeld_ratios) == (None, None)
    fit = label(dipole=np.zeros(3), hirshfeld_ratios=np.ones(2))
    assert without_unfit(pair(1.0), fit) == fit


def test_what_is_periodic_needs_no_dipole() -> None:
    check_label(pair(1.0, **CELL), label(), GATE, beside=("dipole",))
