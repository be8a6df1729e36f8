"""PySCF as reference, against PySCF called by hand and against differences of energies."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tblib.pickling_support
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed, PropertyNotImplementedError
from pyscf import dft, gto, scf
from pyscf.data import nist
from pyscf.lib import num_threads
from pyscf.pbc import dft as pbc_dft
from pyscf.pbc import gto as pbc_gto

from aimspax_core.errors import LabelError
from aimspax_core.reference.pyscf.engine import PyscfEngine
from aimspax_core.reference.pyscf.refusals import method_refused, structure_refused
from aimspax_core.reference.pyscf.section import PyscfReference
from aimspax_core.structures import digest

HARTREE = nist.HARTREE2EV
FORCE = nist.HARTREE2EV / nist.BOHR
CELL = {"basis": "gth-szv", "pseudo": "gth-pade", "ke_cutoff": 40.0}


def why_not(section: PyscfReference, atoms: Atoms, stress: bool) -> str | None:
    """What is said before anything is launched."""
    return method_refused(section) or structure_refused(section, atoms, stress)


def settings(**changes: Any) -> PyscfReference:
    return PyscfReference.model_validate({"engine": "pyscf", **changes})


def engine(**changes: Any) -> PyscfEngine:
    return PyscfEngine(settings(**changes), Path("/"))


def bent(name: str = "H2O", **info: Any) -> Atoms:
    atoms = molecule(name)
    atoms.rattle(0.05, seed=1)
    atoms.info |= info
    return atoms


def crystal() -> Atoms:
    """Hydrogen molecules in a skewed cell, whose stress has six different numbers."""
    cell = [[3.0, 0.0, 0.0], [0.3, 3.0, 0.0], [0.0, 0.2, 3.2]]
    return Atoms("H2", [[0.0, 0.0, 0.0], [0.1, 0.2, 0.75]], cell=cell, pbc=True)


def by_hand(atoms: Atoms, **changes: Any) -> Any:
    text = "; ".join(
        f"{s} {x!r} {y!r} {z!r}"
        for s, (x, y, z) in zip(atoms.symbols, atoms.positions.tolist(), strict=True)
    )
    return gto.M(atom=text, **{"basis": "def2-svp", "verbose": 0, **changes})


def slope(reference: PyscfEngine, atoms: Atoms, atom: int, axis: int) -> float:
    """Minus the difference of energies by a coordinate (eV/Å)."""
    step, energies = 2e-3, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[atom, axis] += sign * step
        energies.append(reference.label(moved).energy)
    return (energies[1] - energies[0]) / (2 * step)


# Molecules


@pytest.mark.key("PyscfReference", "engine")
def test_a_functionals_energy_and_forces_are_pyscfs_own() -> None:
    atoms = bent()
    hand = dft.RKS(by_hand(atoms), xc="pbe").run()
    gradients = hand.nuc_grad_method().set(grid_response=True)
    label = engine().label(atoms)
    assert label.energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)
    np.testing.assert_allclose(label.forces, -gradients.kernel() * FORCE, atol=1e-7)


@pytest.mark.key("PyscfReference", "xc")
def test_hartree_fock_is_pyscfs_own() -> None:
    atoms = bent()
    hand = scf.RHF(by_hand(atoms, basis="sto-3g")).run()
    label = engine(xc="hf", basis="sto-3g").label(atoms)
    assert label.energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)
    np.testing.assert_allclose(label.forces, -hand.nuc_grad_method().kernel() * FORCE, atol=1e-7)


@pytest.mark.key("PyscfReference", "density_fit")
def test_density_fitting_is_pyscfs_own() -> None:
    atoms = bent()
    hand = dft.RKS(by_hand(atoms), xc="b3lyp").density_fit().run()
    fitted = engine(xc="b3lyp", density_fit=True).label(atoms)
    assert fitted.energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)


@pytest.mark.key("PyscfReference", "dispersion")
@pytest.mark.parametrize("name", ["d3bj", "d3zero", "d4"])
def test_dispersion_is_pyscfs_own(name: str) -> None:
    atoms = bent()
    hand = dft.RKS(by_hand(atoms, basis="sto-3g"), xc="pbe")
    hand.disp = name
    hand.run()
    gradients = hand.nuc_grad_method().set(grid_response=True)
    label = engine(basis="sto-3g", dispersion=name).label(atoms)
    assert label.energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)
    np.testing.assert_allclose(label.forces, -gradients.kernel() * FORCE, atol=1e-7)


def test_dispersion_in_a_functionals_name_is_added() -> None:
    atoms = bent()
    hand = dft.RKS(by_hand(atoms, basis="sto-3g"), xc="b3lyp-d3bj").run()
    label = engine(xc="b3lyp-d3bj", basis="sto-3g").label(atoms)
    assert hand.scf_summary["dispersion"] < -1e-5
    assert label.energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)


@pytest.mark.parametrize(
    "changes",
    [{"xc": "scan"}, {"xc": "wb97x"}, {"xc": "b3lyp", "density_fit": True, "dispersion": "d4"}],
    ids=["scan", "wb97x", "b3lyp-d4"],
)
def test_forces_are_the_slope_of_the_energy(changes: dict[str, Any]) -> None:
    reference, atoms = engine(conv_tol=1e-11, **changes), bent()
    forces = reference.label(atoms).forces
    assert forces[0, 2] == pytest.approx(slope(reference, atoms, 0, 2), abs=1e-4)


def test_forces_of_a_functional_add_up_to_zero() -> None:
    assert np.abs(engine(xc="r2scan").label(bent()).forces.sum(0)).max() < 1e-4


def test_a_radical_is_unrestricted() -> None:
    atoms = bent("CH3")
    hand = dft.UKS(by_hand(atoms, spin=1), xc="pbe").run()
    label = engine(spin=2).label(atoms)
    assert label.energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)
    assert label.provenance["method"] == "UKS pbe/def2-svp"


def test_a_radicals_forces_are_the_slope_of_the_energy() -> None:
    reference, atoms = engine(spin=2, basis="sto-3g", conv_tol=1e-11), bent("CH3")
    forces = reference.label(atoms).forces
    assert forces[1, 1] == pytest.approx(slope(reference, atoms, 1, 1), abs=1e-4)


@pytest.mark.key("PyscfReference", "unrestricted")
def test_a_stretched_bond_can_break_its_spin_symmetry() -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    plain, open_shell = engine().label(atoms), engine(unrestricted=True).label(atoms)
    assert open_shell.energy == pytest.approx(plain.energy, abs=1e-6)
    assert open_shell.provenance["method"].startswith("UKS")


def test_a_structures_own_charge_and_spin_win() -> None:
    reference = engine(xc="hf", basis="sto-3g", charge=3, spin=4)
    cation = reference.label(bent(charge=1.0, spin=2.0))
    hand = scf.UHF(by_hand(bent(), basis="sto-3g", charge=1, spin=1)).run()
    assert cation.energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)


def test_heavy_elements_get_the_cores_of_their_basis() -> None:
    atoms = Atoms("HI", [[0, 0, 0], [0, 0, 1.61]])
    hand = scf.RHF(by_hand(atoms, ecp="def2-svp")).run()
    assert engine(xc="hf").label(atoms).energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)
    assert hand.mol.nelectron == 26


def test_a_basis_by_element_is_used() -> None:
    basis = {"O": "def2-svp", "H": "sto-3g"}
    hand = scf.RHF(by_hand(bent(), basis=basis)).run()
    label = engine(xc="hf", basis=basis).label(bent())
    assert label.energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)


def test_an_answer_does_not_depend_on_the_structure_before() -> None:
    reference = engine(basis="sto-3g")
    alone = reference.label(bent())
    reference.label(bent("CH4"))
    again = reference.label(bent())
    assert again.energy == alone.energy
    np.testing.assert_array_equal(again.forces, alone.forces)


def test_nothing_is_printed_and_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pyscf.lib.param.TMPDIR", str(tmp_path))
    engine(basis="sto-3g", dispersion="d3bj", density_fit=True).label(bent())
    assert (capfd.readouterr(), list(tmp_path.iterdir())) == (("", ""), [])


@pytest.mark.key("PyscfReference", "threads")
def test_threads_of_the_process_are_as_before() -> None:
    before = num_threads()
    engine(xc="hf", basis="sto-3g", threads=before + 1).label(bent())
    assert num_threads() == before


# Convergence


def test_an_scf_that_does_not_converge_is_tried_to_second_order() -> None:
    hasty = engine(basis="sto-3g", max_cycle=4).label(bent())
    steady = engine(basis="sto-3g").label(bent())
    (warning,) = hasty.provenance["warnings"]
    assert warning == (
        "SCF did not converge: not in 4 cycles; the second-order solver did from there"
    )
    assert steady.provenance["warnings"] == []
    assert hasty.energy == pytest.approx(steady.energy, abs=1e-7)
    np.testing.assert_allclose(hasty.forces, steady.forces, atol=1e-3)


@pytest.mark.key("PyscfReference", "max_cycle")
def test_one_that_does_not_converge_to_second_order_either_has_no_label() -> None:
    with pytest.raises(LabelError, match="SCF did not converge: not in 1 cycles, nor with") as told:
        engine(max_cycle=1).label(bent())
    assert not told.value.transient


@pytest.mark.key("PyscfReference", "conv_tol", "conv_tol_grad")
def test_convergence_thresholds_count() -> None:
    loose = engine(conv_tol=1e-3, conv_tol_grad=0.1).label(bent())
    tight = engine(conv_tol=1e-12).label(bent())
    assert loose.provenance["scf_cycles"] < tight.provenance["scf_cycles"]


# Periodic cells


def cell_by_hand(atoms: Atoms, ke_cutoff: float = 40.0) -> Any:
    return pbc_gto.M(
        atom=[("H", p) for p in atoms.positions], a=atoms.cell.array, ke_cutoff=ke_cutoff,
        basis="gth-szv", pseudo="gth-pade", verbose=0,
    )  # fmt: skip


@pytest.mark.key("PyscfReference", "k_grid")
@pytest.mark.parametrize("unrestricted", [False, True])
def test_a_cell_with_k_points_is_pyscfs_own(unrestricted: bool) -> None:
    cell = cell_by_hand(crystal())
    kind = pbc_dft.KUKS if unrestricted else pbc_dft.KRKS
    hand = kind(cell, cell.make_kpts([1, 1, 2]), xc="pbe").run()
    gradients = hand.nuc_grad_method()
    label = engine(**CELL, k_grid=[1, 1, 2], unrestricted=unrestricted).label(crystal())
    assert label.energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)
    np.testing.assert_allclose(label.forces, -gradients.kernel() * FORCE, atol=1e-7)
    stress = gradients.get_stress() * HARTREE / nist.BOHR**3
    np.testing.assert_allclose(label.stress, stress, atol=1e-7)


@pytest.mark.key("PyscfReference", "basis", "pseudo", "ke_cutoff")
def test_a_cell_without_is_that_of_multigrid() -> None:
    hand = pbc_dft.RKS(cell_by_hand(crystal()), xc="pbe").multigrid_numint().run()
    label = engine(**CELL).label(crystal())
    assert label.energy == pytest.approx(hand.e_tot * HARTREE, rel=1e-12)
    np.testing.assert_allclose(label.forces, -hand.nuc_grad_method().kernel() * FORCE, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"k_grid": [1, 1, 2], "unrestricted": True, "ke_cutoff": 40.0}],
    ids=["gamma", "k-points"],
)
def test_a_cells_derivatives_are_those_of_its_energy(changes: dict[str, Any]) -> None:
    method = CELL | {"ke_cutoff": 100.0} | changes
    reference, energy_only = engine(**method), engine(**method, compute_stress=False)
    atoms, step = crystal(), 2e-3
    label = reference.label(atoms)
    assert label.stress is not None
    assert label.forces[1, 2] == pytest.approx(slope(energy_only, atoms, 1, 2), abs=2e-3)
    for i, j in ((2, 2), (0, 1)):
        energies = []
        for sign in (1, -1):
            strain, strained = np.eye(3), atoms.copy()
            strain[i, j] += sign * step
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(energy_only.label(strained).energy)
        numerical = (energies[0] - energies[1]) / (2 * step * atoms.get_volume())
        assert label.stress[i, j] == pytest.approx(numerical, abs=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("xc", ["hf", "hse06"])
def test_hybrids_in_cells_have_forces_and_no_stress(xc: str) -> None:
    reference, atoms = engine(**CELL, xc=xc, k_grid=[1, 1, 2]), crystal()
    label = reference.label(atoms)
    assert label.stress is None
    assert label.forces[1, 2] == pytest.approx(slope(reference, atoms, 1, 2), abs=1e-3)


@pytest.mark.parametrize("name", ["d3bj", "d4"])
def test_dispersion_in_cells_is_in_energy_forces_and_stress(name: str) -> None:
    from pyscf.dispersion import dftd3, dftd4

    def dispersion(atoms: Atoms) -> float:
        model = dftd4.DFTD4Dispersion if name == "d4" else dftd3.DFTD3Dispersion
        return float(model(cell_by_hand(atoms), xc="pbe").get_dispersion()["energy"]) * HARTREE

    atoms, step = crystal(), 1e-2
    plain, with_it = engine(**CELL).label(atoms), engine(**CELL, dispersion=name).label(atoms)
    assert with_it.energy - plain.energy == pytest.approx(dispersion(atoms), abs=1e-7)
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * (1 + sign * step), scale_atoms=True)
        energies.append(dispersion(strained))
    pressure = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
    assert with_it.stress is not None and plain.stress is not None
    assert np.trace(with_it.stress - plain.stress) == pytest.approx(pressure, rel=0.02)


def test_a_left_handed_cell_is_the_same_crystal() -> None:
    atoms = crystal()
    mirrored = atoms.copy()
    mirrored.set_cell(atoms.cell.array[[1, 0, 2]])
    label, other = engine(**CELL).label(atoms), engine(**CELL).label(mirrored)
    assert other.energy == pytest.approx(label.energy, abs=1e-6)
    assert other.stress is not None
    np.testing.assert_allclose(other.stress, label.stress, atol=1e-6)


def test_spin_of_a_cell_is_each_cells_whatever_the_k_grid() -> None:
    atoms = Atoms("H", cell=[3.0, 3.0, 3.0], pbc=True)
    one = engine(**CELL, spin=2).label(atoms)
    two = engine(**CELL, spin=2, k_grid=[1, 1, 2]).label(atoms)
    assert two.energy == pytest.approx(one.energy, abs=1.0)
    assert two.provenance["method"].startswith("KUKS")


@pytest.mark.parametrize(
    ("k_grid", "unrestricted"), [([1, 1, 1], False), ([1, 1, 1], True), ([1, 1, 2], False)]
)
def test_a_cells_scf_is_tried_to_second_order_too(k_grid: list[int], unrestricted: bool) -> None:
    method = CELL | {"k_grid": k_grid, "unrestricted": unrestricted, "conv_tol": 1e-11}
    hasty = engine(**method, max_cycle=2).label(crystal())
    steady = engine(**method).label(crystal())
    assert len(hasty.provenance["warnings"]) == 1
    assert hasty.energy == pytest.approx(steady.energy, abs=1e-6)
    np.testing.assert_allclose(hasty.forces, steady.forces, atol=1e-4)


@pytest.mark.key("PyscfReference", "compute_stress")
def test_stress_is_left_out_if_it_is_not_wanted() -> None:
    assert engine(**CELL, compute_stress=False).label(crystal()).stress is None


# As a calculator


def test_md_that_it_drives_gets_the_labels_answer() -> None:
    reference, atoms = engine(basis="sto-3g"), bent()
    label = reference.label(atoms)
    atoms.calc = reference.calculator()
    assert atoms.get_potential_energy() == label.energy
    np.testing.assert_array_equal(atoms.get_forces(), label.forces)


def test_md_meets_an_unconverged_scf_as_a_failed_calculation() -> None:
    atoms = bent()
    atoms.calc = engine(max_cycle=1).calculator()
    with pytest.raises(CalculationFailed, match="SCF did not converge"):
        atoms.get_forces()


def test_a_molecule_has_no_stress_to_ask_for() -> None:
    atoms = bent()
    atoms.calc = engine(xc="hf", basis="sto-3g").calculator()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


# Identity


def test_the_identity_is_json_and_tells_versions() -> None:
    found = engine(dispersion="d4", basis={"H": "sto-3g"}).identity()
    assert json.loads(json.dumps(found)) == found
    assert found["version"].startswith("2.") and found["dispersion_version"].startswith("1.")


@pytest.mark.key("PyscfReference", "charge", "spin", "grids_level", "auxbasis")
@pytest.mark.parametrize(
    "changes",
    [
        {"xc": "blyp"}, {"basis": "sto-3g"}, {"dispersion": "d4"}, {"charge": 1}, {"spin": 3},
        {"density_fit": True}, {"grids_level": 4}, {"conv_tol": 1e-8}, {"unrestricted": True},
    ],
    ids=str,
)  # fmt: skip
def test_what_changes_the_answer_changes_the_identity(changes: dict[str, Any]) -> None:
    assert digest(engine(**changes).identity()) != digest(engine().identity())


@pytest.mark.key("PyscfReference", "max_memory")
@pytest.mark.parametrize("changes", [{"threads": 2}, {"max_memory": 900}, {"max_cycle": 9}])
def test_what_a_calculation_may_use_does_not(changes: dict[str, Any]) -> None:
    assert digest(engine(**changes).identity()) == digest(engine().identity())


# Errors


def test_pyscfs_own_error_is_told_and_travels() -> None:
    on_top = Atoms("H2", [[0, 0, 0], [0, 0, 0]])
    with pytest.raises(LabelError, match=r"PySCF failed on H2: LinAlgError: .*ingular") as told:
        engine(basis="sto-3g").label(on_top)
    tblib.pickling_support.install()
    again = pickle.loads(pickle.dumps(told.value))
    assert (str(again), again.transient) == (str(told.value), False)
    assert told.value.__cause__ is None and told.value.__context__ is None


def test_scratch_that_is_not_there_is_transient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyscf.lib.param.TMPDIR", str(tmp_path / "gone"))
    with pytest.raises(LabelError, match="FileNotFoundError") as told:
        engine(basis="sto-3g", density_fit=True, max_memory=0.001).label(bent())
    assert told.value.transient


def slab() -> Atoms:
    atoms = crystal()
    atoms.pbc = [True, True, False]
    return atoms


def flat() -> Atoms:
    return Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]], pbc=True)


@pytest.mark.parametrize(
    ("changes", "atoms", "words"),
    [
        (CELL, slab(), "H2: REFERENCE.engine: PySCF labels molecules, and cells periodic in all"),
        (CELL, flat(), "H2: REFERENCE.engine: the structure is periodic, and its cell has no vol"),
        (CELL | {"density_fit": True}, crystal(), "H2: REFERENCE.density_fit: "),
        ({"k_grid": [2, 2, 2]}, bent(), "H2O: REFERENCE.k_grid: it is for periodic cells"),
        ({"basis": {"O": "sto-3g"}}, bent(), "H2O: REFERENCE.basis: nothing for H"),
        ({"spin": 2}, bent(), "H2O: REFERENCE.spin: the multiplicity is 2, but with charge 0 "),
        ({}, bent(charge=10), "H2O: REFERENCE.charge: H2O has no electrons with charge 10"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_structure_that_does_not_fit_the_method_has_no_label(
    changes: dict[str, Any], atoms: Atoms, words: str
) -> None:
    with pytest.raises(LabelError) as told:
        engine(**changes).label(atoms)
    assert str(told.value).startswith(words)
    assert not told.value.transient


# What cannot be run is found before anything is launched


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"xc": "pbex"}, "xc: PySCF does not know pbex"),
        ({"xc": "wb97x-d"}, "xc: NotImplementedError: wb97x-d is not supported"),
        ({"xc": "wb97x-d4"}, "xc: wb97x-d4 names one method in PySCF 2.14 and another"),
        ({"xc": "mgga_x_br89"}, "xc: PySCF has no forces for mgga_x_br89"),
        ({"basis": "def2-spv"}, "did you mean def2svp?"),
        ({"basis": {"O": "def2-svp"}}, "basis: nothing for H"),
        ({"basis": "gth-dzvp"}, "basis: GTH bases, and only they, are for periodic cells"),
        ({"dispersion": "d3zero", "xc": "r2scan"}, "dispersion: r2scan has no parameters for d3z"),
        ({"dispersion": "d4", "xc": "wb97m-v"}, "dispersion: wb97m-v has dispersion of its own"),
        ({"dispersion": "d4", "xc": "pbe-d3bj"}, "dispersion: pbe-d3bj has dispersion of its own"),
        ({"dispersion": "d3bj", "xc": "wb97x"}, "dispersion: the parameters are those of another"),
        ({"charge": 1}, "spin: the multiplicity is 1, but with charge 1 H2O has 9 electrons"),
        ({"spin": 13}, "spin: the multiplicity is 13; H2O has 10 electrons"),
        ({"k_grid": [2, 2, 2]}, "k_grid: it is for periodic cells"),
        ({"pseudo": "gth-pbe"}, "pseudo: it is for periodic cells"),
        ({"auxbasis": "weigend"}, "auxbasis: it is for density_fit: True"),
        ({"auxbasis": "def2-jk", "density_fit": True}, "auxbasis: PySCF has no def2-jk for H"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_molecule_that_cannot_be_run_is_refused(changes: dict[str, Any], words: str) -> None:
    found = why_not(settings(**changes), bent(), stress=False)
    assert found is not None and words in found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pseudo": None}, "pseudo: periodic cells need one"),
        ({"pseudo": "gth-pb"}, "pseudo: PySCF has no gth-pb for H"),
        ({"basis": "def2-svp"}, "basis: "),
        ({"density_fit": True}, "density_fit: "),
        ({"xc": "r2scan"}, "xc: PySCF has forces of periodic cells for LDA, GGA and hybrids, not"),
        ({"xc": "wb97x-v"}, "xc: PySCF has forces of periodic cells for LDA, GGA and hybrids, not"),
        ({"xc": "pbe-d3bj"}, "xc: for periodic cells, write the dispersion of pbe-d3bj under disp"),
        ({"xc": "pbe0"}, "xc: stress is needed, but PySCF has none for pbe0"),
        ({"compute_stress": False}, "compute_stress: False, but stress is needed"),
        ({"spin": 2}, "spin: the multiplicity is 2, but with charge 0 H2 has 2 electrons"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_cell_that_cannot_be_run_is_refused(changes: dict[str, Any], words: str) -> None:
    found = why_not(settings(**CELL | changes), crystal(), stress=True)
    assert found is not None and found.startswith(words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spin": 2}, "spin: the multiplicity is 2, but with charge 0 HI has 26 electrons outside"),
        ({"spin": 40}, "spin: the multiplicity is 40; HI has 26 electrons outside the pseudopot"),
        ({"charge": 26}, "charge: HI has no electrons outside the pseudopotentials with charge 26"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_electrons_that_are_not_counted_are_told(changes: dict[str, Any], words: str) -> None:
    heavy = Atoms("HI", [[0, 0, 0], [0, 0, 1.61]])
    found = why_not(settings(xc="hf", **changes), heavy, stress=False)
    assert found is not None and found.startswith(words)


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("pyscf", "engine: PySCF is not installed; pip install 'aimspax[pyscf]'"),
        ("pyscf.dispersion", "dispersion: it needs the package pyscf-dispersion; pip install"),
    ],
)
def test_what_is_not_installed_is_told(
    package: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert str(why_not(settings(dispersion="d3bj"), bent(), stress=False)).startswith(words)


def test_a_slab_is_refused() -> None:
    assert "in all three directions" in str(why_not(settings(**CELL), slab(), stress=False))


def test_stress_of_a_molecule_is_refused() -> None:
    found = why_not(settings(), bent(), stress=True)
    assert found == "engine: stress is needed, but this structure is not periodic"


@pytest.mark.parametrize(
    ("changes", "atoms", "stress"),
    [
        ({}, bent(), False),
        ({"xc": "wb97m-d3bj", "basis": "def2-tzvp", "density_fit": True}, bent(), False),
        ({"xc": "hf", "dispersion": "d4", "spin": 2}, bent("CH3"), False),
        ({"spin": 2}, bent(charge=1, spin=2), False),
        ({"auxbasis": "def2-universal-jkfit", "density_fit": True}, bent(), False),
        ({**CELL, "k_grid": [2, 2, 2], "dispersion": "d3bj"}, crystal(), True),
        ({**CELL, "xc": "hse06"}, crystal(), False),
    ],
    ids=str,
)
def test_what_can_be_run_is_not_refused(
    changes: dict[str, Any], atoms: Atoms, stress: bool
) -> None:
    assert why_not(settings(**changes), atoms, stress) is None
