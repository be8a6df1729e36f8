"""Isolated atoms: their ground states, and what engines are told of them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, ground_state_magnetic_moments
from tblite.ase import TBLite

from aimspax_core.errors import SettingsError
from aimspax_core.reference.aims.section import AimsReference
from aimspax_core.reference.ase.section import AseReference
from aimspax_core.reference.pyscf.section import PyscfReference
from aimspax_core.reference.registry import build_reference, kind_of
from aimspax_core.reference.single_atoms import ground_state
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.settings.aims_control.control import Control

ANY = AseReference(engine="ase", calculator="ase.calculators.emt.EMT")
XTB = TbliteReference(engine="tblite")
KNOWN = range(1, 104)
TESTS = Path(__file__).parents[1] / "aims"

# Neutral Ce and Es have an even and an odd number of electrons: ASE's 1 and 4 unpaired ones cannot
# be; of Lr it has none.
ASE_IS_WRONG = {"Ce", "Es", "Lr"}


def unpaired(number: int) -> int:
    return ground_state(number, ANY).multiplicity - 1


@pytest.mark.parametrize("number", KNOWN, ids=lambda z: chemical_symbols[z])
def test_unpaired_electrons_suit_the_number_of_electrons(number):
    assert (number - unpaired(number)) % 2 == 0


def test_ground_states_are_those_of_another_table():
    differ = {chemical_symbols[z] for z in KNOWN if unpaired(z) != ground_state_magnetic_moments[z]}
    assert differ == ASE_IS_WRONG


@pytest.mark.parametrize(
    ("symbol", "name"),
    [("H", "doublet"), ("C", "triplet"), ("N", "quartet"), ("Fe", "quintet"), ("Cr", "septet"),
     ("Pd", "singlet"), ("Eu", "octet"), ("Gd", "nonet")],
)  # fmt: skip
def test_ground_states_have_the_names_that_chemists_know(symbol, name):
    assert ground_state(atomic_numbers[symbol], ANY).name == name


def test_an_element_that_too_little_is_known_of_is_refused():
    with pytest.raises(SettingsError, match="no ground state of Rf is known; allowed: H to Lr"):
        ground_state(104, ANY)


@pytest.mark.parametrize("number", range(58, 72), ids=lambda z: chemical_symbols[z])
def test_xtb_computes_lanthanides_without_their_f_electrons(number):
    atoms = ground_state(number, XTB).atoms()
    by_hand = Atoms(numbers=[number], positions=[[0, 0, 0]])
    by_hand.calc = TBLite(method="GFN2-xTB", multiplicity=2, verbosity=0)
    label = build_reference(XTB, Path()).label(atoms)
    assert label.energy == pytest.approx(by_hand.get_potential_energy(), abs=1e-6)


def test_an_atom_is_neutral_whatever_the_campaigns_charge_is():
    ions = XTB.model_copy(update={"charge": 1, "spin": 2})
    atoms = ground_state(8, ions).atoms()
    neutral = build_reference(XTB, Path()).label(atoms).energy
    assert build_reference(ions, Path()).label(atoms).energy == neutral


def test_an_atom_in_a_box_is_alone_and_periodic():
    atoms = ground_state(14, ANY).atoms(box=True)
    assert atoms.pbc.all()
    assert np.allclose(atoms.positions, 6.0)
    assert atoms.cell.lengths().min() >= 10


@pytest.fixture
def aims(tmp_path: Path) -> AimsReference:
    """FHI-aims as it is set up for a crystal of closed shells."""
    (tmp_path / "control.in").write_text(
        "xc pbe\nspin none\ncharge 1\nk_grid 4 4 4\nk_offset 0.5 0.5 0.5\n"
        "occupation_type gaussian 0.02\ncompute_analytical_stress .true.\n"
    )
    line = f"{sys.executable} {shlex.quote(str(TESTS / 'stand_in.py'))} > aims.out"
    return AimsReference(
        engine="aims", species_dir=TESTS / "species", launch_str=line, clean_dirs=False
    )


def in_vacuum(section, directory, folder, multiplicity):
    return kind_of(section).in_vacuum(section, directory, folder, multiplicity)


def names(settings: AimsReference, directory: Path) -> list[str]:
    assert isinstance(settings.control, Path)
    return [keyword.name for keyword in Control.read(directory / settings.control)[0].keywords]


def test_what_belongs_to_cells_is_not_asked_of_an_atom(aims, tmp_path):
    found = names(in_vacuum(aims, tmp_path, tmp_path / "atoms", 3), tmp_path)
    assert sorted(found) == ["charge", "occupation_type", "spin", "xc"]


def test_the_users_control_file_stays_as_it_is(aims, tmp_path):
    before = (tmp_path / "control.in").read_text()
    in_vacuum(aims, tmp_path, tmp_path / "atoms", 3)
    assert (tmp_path / "control.in").read_text() == before


def test_fhi_aims_is_given_spin_moment_and_charge_of_an_atom(aims, tmp_path):
    settings = in_vacuum(aims, tmp_path, tmp_path / "atoms", 3)
    build_reference(settings, tmp_path).label(ground_state(8, aims).atoms())
    (folder,) = (tmp_path / "calc").iterdir()
    control = Control.parse((folder / "control.in").read_text().partition("species")[0])[0]
    geometry = (folder / "geometry.in").read_text().split("\n")
    assert control.get("spin") == ("collinear",)
    assert control.get("fixed_spin_moment") == ("2.0",)
    assert control.number("charge") == 0
    moments = [line.split()[1] for line in geometry if "initial_moment" in line]
    assert [*map(float, moments)] == [2.0]
    assert not any("lattice_vector" in line for line in geometry)


@pytest.mark.parametrize(("symbol", "multiplicity"), [("H", 2), ("C", 3), ("N", 4), ("O", 3)])
def test_fhi_aims_gives_an_atom_in_its_ground_state(aims, tmp_path, symbol, multiplicity):
    # The stand-in computes with GFN2-xTB.
    by_hand = Atoms(symbol, calculator=TBLite(multiplicity=multiplicity, verbosity=0))
    state = ground_state(atomic_numbers[symbol], aims)
    settings = in_vacuum(aims, tmp_path, tmp_path / "atoms", state.multiplicity)
    label = build_reference(settings, tmp_path).label(state.atoms())
    assert label.energy == pytest.approx(by_hand.get_potential_energy(), abs=1e-5)


def test_a_closed_shell_is_not_spin_polarised(aims, tmp_path):
    settings = in_vacuum(aims, tmp_path, tmp_path / "atoms", 1)
    control = Control.read(tmp_path / settings.control)[0]
    assert control.get("spin") == ("none",)


def test_pseudopotentials_of_cells_need_a_cell_for_the_atom_too():
    molecules = PyscfReference(engine="pyscf")
    cells = PyscfReference(engine="pyscf", basis="gth-dzvp-molopt-sr", pseudo="gth-pbe")
    assert [s.atoms_in_cell for s in (molecules, cells, ANY, XTB)] == [False, True, None, False]


def test_an_atom_has_no_k_points(tmp_path):
    cells = PyscfReference(engine="pyscf", pseudo="gth-pbe", k_grid=(2, 2, 2))
    alone = in_vacuum(cells, tmp_path, tmp_path, 3)
    assert isinstance(alone, PyscfReference)
    assert (alone.k_grid, alone.pseudo) == (None, "gth-pbe")
