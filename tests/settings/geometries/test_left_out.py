"""What formats leave open is not guessed, and what ASE's readers leave out is read."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import molecule
from ase.data import chemical_symbols

from aimspax_core.settings.geometries.elements_of_names import element_of_name
from aimspax_core.settings.geometries.files import read_file
from tests.geometry_files import geometry, refused

LINE = "ATOM  {n:5d} {name:<4s} {residue:<4s}A{n:4d}    {n:8.3f}   0.000   0.000  1.00  0.00"


def pdb(*atoms: tuple[str, str]) -> str:
    lines = (LINE.format(n=n, name=a, residue=r) for n, (a, r) in enumerate(atoms, 1))
    return "\n".join((*lines, "END\n"))


# ---- elements -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "residue", "element"),
    [
        (" CA ", "ALA", "C"),
        ("CA  ", "CA", "Ca"),
        (" CL ", "CL-", "Cl"),
        (" CA ", "CA", "Ca"),
        ("CA  ", "GLY", "C"),
        (" HG ", "SER", "H"),
        ("HG11", "VAL", "H"),
        ("1HB ", "LIG", "H"),
        (" OG ", "SER", "O"),
        (" NA ", "HEM", "N"),
        ("FE  ", "HEM", "Fe"),
        ("CL1 ", "LIG", None),
        ("ZN  ", "ZN", "Zn"),
        (" MW ", "SOL", None),
        ("Na+ ", "Na+", "Na"),
        (" Na+", "Na+", "Na"),
        ("Cl- ", "Cl-", "Cl"),
        (" Cl-", "Cl-", "Cl"),
        (" K+ ", "K+", "K"),
        ("MG2+", "MG2", "Mg"),
        ("SOD ", "SOD", "Na"),
        (" SOD", "SOD", "Na"),
        ("CLA ", "CLA", "Cl"),
        (" POT", "POT", "K"),
        (" SOD", "LIG", "S"),
        ("RUB ", "RUB", "Rb"),
        (" UNX", "UNX", None),
        (" UNK", "UNX", None),
        ("CIM ", "Cl-", None),
        (" CIM", "Cl-", None),
        (" CL ", "ION", None),
        (" CL1", "LIG", None),
        (" BR1", "LIG", None),
        (" Cl1", "LIG", "Cl"),
        (" CA ", "LIG", "C"),
        (" HO2", "LIG", "H"),
        (" PB ", "ADP", "P"),
        (" FE ", "HEM", "Fe"),
        (" OG ", "SEP", "O"),
        (" NO ", "LIG", "N"),
        (" C1 ", "LIG", "C"),
    ],
)
def test_elements_of_a_pdb_file_without_a_column_of_them(
    tmp_path: Path, name: str, residue: str, element: str | None
):
    content = pdb((name, residue))
    if element is None:
        text = refused(tmp_path, "a.pdb", content)
        assert "line 1" in text
        assert name.strip() in text
    else:
        found = geometry(tmp_path, "a.pdb", content)
        assert found.atoms.get_chemical_symbols() == [element]
        assert any("atoms' names" in note for note in found.notes)


def test_what_a_pdb_file_leaves_open_is_said(tmp_path: Path):
    def notes(content: str) -> str:
        return " ".join(geometry(tmp_path, "a.pdb", content).notes)

    plain = pdb(*[(" O  ", "HOH")] * 4)
    assert "hydrogen" in notes(plain)
    assert "hydrogen" not in notes(pdb(*[(" O  ", "HOH"), (" H1 ", "HOH")] * 2))
    assert "hydrogen" not in notes(pdb(*[(" O  ", "LIG")] * 4))
    assert "occupancies" in notes(plain.replace("  1.00  0.00", "  0.50  0.00"))
    assert "occupancies" not in notes(plain.replace("  1.00  0.00", "  0.00  0.00"))
    ion = "  0.00          NA1+"
    assert "+1" in notes(pdb(("NA  ", "NA")).replace("  0.00\n", f"{ion}\n", 1))


@pytest.mark.parametrize("isotope", ["D", "T"])
def test_isotopes_of_a_pdb_file_are_named(tmp_path: Path, isotope: str):
    content = pdb((" O  ", "DOD"), (" D1 ", "DOD"))
    content = content.replace("  0.00\n", f"  0.00           {isotope}\n").replace(
        f" {isotope}\n", " O\n", 1
    )
    text = refused(tmp_path, "a.pdb", content)
    assert f"line 2: atom D1 of DOD is of the isotope {isotope}" in text
    assert "write H" in text


def test_elements_that_a_pdb_file_has_are_taken(tmp_path: Path):
    content = pdb(("CA  ", "LIG")).replace("  0.00\n", "  0.00          CA\n", 1)
    found = geometry(tmp_path, "a.pdb", content)
    assert found.atoms.get_chemical_symbols() == ["Ca"]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("name", "residue", "element"),
    [
        ("OW", "SOL", "O"),
        ("HW1", "SOL", "H"),
        ("NA", "NA", "Na"),
        ("CL", "CL", "Cl"),
        ("NA+", "ION", None),
        ("Na+", "ION", "Na"),
        ("MW", "SOL", None),
        ("CA", "GLY", "C"),
        ("BR", "LIG", "Br"),
        ("ZN", "ZN2", "Zn"),
        ("P", "DPPC", "P"),
        ("SOD", "SOD", "Na"),
        ("CLA", "CLA", "Cl"),
        ("POT", "POT", "K"),
        ("CES", "CES", "Cs"),
        ("CAL", "ION", "Ca"),
        ("SOD", "NA+", "Na"),
        ("RUB", "RUB", "Rb"),
        ("CUX", "CUX", None),
        ("UNX", "UNX", None),
        ("UNK", "UNX", None),
        ("CIM", "Cl-", None),
        ("Cl-", "Cl-", "Cl"),
        ("K+", "K+", "K"),
        ("CU", "CU1+", "Cu"),
        ("CD2", "CD2", "Cd"),
        ("FL1", "LIG", "F"),
        ("BH1", "LIG", "B"),
        ("FE1", "LIG", None),
        ("IN1", "LIG", None),
        ("FE", "HEM", "Fe"),
        ("NA", "HEM", "N"),
        ("SE", "MSE", None),
        ("CL", "", None),
        ("OG1", "LIG", "O"),
        ("CH2", "TRP", "C"),
        ("CH3", "ACE", "C"),
        ("CH2", "POPC", None),
        ("ch2", "", None),
        ("C_H3", "", None),
        ("CH", "", None),
        ("W", "W", None),
        ("W", "SOL", None),
        ("BB", "LEU", None),
        ("SC1", "LEU", None),
        ("SD", "MET", "S"),
    ],
)
def test_elements_by_names(name: str, residue: str, element: str | None):
    assert element_of_name(name, residue) == element


def test_an_ion_of_a_gro_file_is_no_nitrogen_and_a_site_no_tungsten(tmp_path: Path):
    head, box = "t\n    1\n", "   2.00000   2.00000   2.00000\n"
    ion = "    1NA      NA    1   0.100   0.200   0.300\n"
    site = "    1SOL     MW    1   0.100   0.200   0.300\n"
    found = geometry(tmp_path, "a.gro", head + ion + box)
    assert found.atoms.get_chemical_symbols() == ["Na"]
    assert any("by the names" in note for note in found.notes)
    assert "MW of SOL" in refused(tmp_path, "b.gro", head + site + box)


def dump(columns: str, *rows: str) -> str:
    box = "ITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
    head = f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{len(rows)}\n{box}"
    return head + "\n".join((f"ITEM: ATOMS {columns}", *rows, ""))


def test_masses_of_reduced_units_are_no_hydrogen(tmp_path: Path):
    assert "reduced" in refused(tmp_path, "a.dump", dump("id type mass x y z", "1 1 1.0 0 0 0"))


def test_types_of_lammps_are_no_atomic_numbers(tmp_path: Path):
    types = dump("id type x y z", "1 1 0 0 0", "2 2 0 0 1")
    assert "types of atoms" in refused(tmp_path, "a.lammpstrj", types)
    named = dump("id element x y z", "1 Cu 0 0 0", "2 O 0 0 2")
    assert str(geometry(tmp_path, "b.lammpstrj", named).atoms.symbols) == "CuO"
    heavy = geometry(tmp_path, "c.lammpstrj", dump("id mass x y z", "1 63.5 0 0 0"))
    assert str(heavy.atoms.symbols) == "Cu"
    assert any("masses" in note for note in heavy.notes)


DATA = """t

1 atoms
1 atom types
0 9 xlo xhi
0 9 ylo yhi
0 9 zlo zhi

Masses

1 {mass}

Atoms # atomic

1 1 0 0 0
"""


@pytest.mark.parametrize(
    ("mass", "found"),
    [
        *(("12.01", "C"), ("12.0", "C"), ("12", "C"), ("12.0107", "C"), ("12.01115", "C")),
        *(("1.008", "H"), ("1.00794", "H"), ("1.01", "H")),
        *(("15.999", "O"), ("15.9994", "O"), ("16.0", "O"), ("14.007", "N"), ("14.0067", "N")),
        *(("35.45", "Cl"), ("35.453", "Cl"), ("35.5", "Cl"), ("28.0855", "Si"), ("28", "Si")),
        *(("32.065", "S"), ("63.5", "Cu"), ("65.39", "Zn"), ("78.96", "Se"), ("208.98", "Bi")),
        *(("4.002602", "He"), ("55.845", "Fe"), ("58.6934", "Ni"), ("58.933", "Co")),
        ("1.0", "reduced units"),
        ("1", "reduced units"),
        ("2.014", "D"),
        ("2", "D"),
        ("40", "Ar and of Ca"),
        ("209", "Po and of Bi"),
        *((mass, None) for mass in ("14.027", "14.03", "4.032", "3.024", "13.019", "15.035")),
        *((mass, None) for mass in ("10.011", "9.995", "16.043", "11.994", "13.983", "13.003")),
    ],
)
@pytest.mark.parametrize("kind", ["data", "dump"])
def test_masses_are_those_of_elements_as_they_are_rounded_or_refused(
    tmp_path: Path, mass: str, found: str | None, kind: str
):
    content = DATA.format(mass=mass)
    content = content if kind == "data" else dump("id mass x y z", f"1 {mass} 0 0 0")
    name = "a.lammps-data" if kind == "data" else "a.lammpstrj"
    if found in chemical_symbols:
        assert str(geometry(tmp_path, name, content).atoms.symbols) == found
    else:
        text = refused(tmp_path, name, content)
        assert f"the mass {mass} is that of {found or 'no element'}" in text


# ---- charges --------------------------------------------------------------------------------

MOL = """a
  b

  2  1  0  0  0  0            999 V2000
    0.0000    0.0000    0.0000 N   0  {code}  0  0  0
    1.0000    0.0000    0.0000 H   0  0  0  0  0
  1  2  1  0
{more}M  END
"""


@pytest.mark.parametrize("name", ["a.sdf", "a.mol"])
@pytest.mark.parametrize(
    ("code", "more", "charge"),
    [(0, "", None), (3, "", 1.0), (0, "M  CHG  2   1   1   2   1\n", 2.0), (5, "", -1.0)],
)
def test_charges_of_a_molfile(
    tmp_path: Path, name: str, code: int, more: str, charge: float | None
):
    found = geometry(tmp_path, name, MOL.format(code=code, more=more))
    assert found.atoms.info.get("charge") == charge
    assert "charge" not in found.before.info  # what a campaign begun earlier has recorded


def test_one_of_several_molecules_is_taken_with_a_note(tmp_path: Path):
    content = (MOL.format(code=0, more="") + "$$$$\n") * 2
    assert any("several" in note for note in geometry(tmp_path, "a.sdf", content).notes)


def test_charge_and_multiplicity_of_a_gaussian_input(tmp_path: Path):
    content = "#p hf\n\nt\n\n1 2\nO 0.0 0.0 0.0\nH 0.0 0.0 1.0\nH 0.0 1.0 0.0\n\n"
    found = geometry(tmp_path, "a.com", content)
    assert (found.atoms.info["charge"], found.atoms.info["spin"]) == (1.0, 2.0)
    assert not {"charge", "spin"} & {*found.before.info}


COORD = "$coord\n0 0 0 n\n0 0 2 h\n$user-defined bonds\n"
PW = """&CONTROL
/
&SYSTEM
 ibrav=0, nat=1, ntyp=1, tot_charge=+1.0d0 ! tot_charge = 2
/
ATOMIC_SPECIES
Na 23 Na.upf
CELL_PARAMETERS angstrom
4 0 0
0 4 0
0 0 4
ATOMIC_POSITIONS crystal
Na 0 0 0
"""


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("scf.in", PW, {"charge": 1.0}),
        (
            "coord",
            "$coord\n0 0 0 n\n0 0 2 h\n$eht charge=1 unpaired=1\n$end\n",
            {"charge": 1.0, "spin": 2.0},
        ),
        ("coord", "$coord\n0 0 0 n\n0 0 2 h\n$end\n", {}),
    ],
)
def test_charges_that_inputs_say(tmp_path: Path, name: str, content: str, said: dict[str, float]):
    info = geometry(tmp_path, name, content).atoms.info
    assert {key: info[key] for key in ("charge", "spin") if key in info} == said


# ---- what is not read -----------------------------------------------------------------------


def test_what_would_be_lost_is_refused(tmp_path: Path):
    coord = "$coord\n0 0 0 c\n$periodic 1\n$cell\n4\n$end\n"
    assert "$periodic" in refused(tmp_path, "coord", coord)
    cell = "%BLOCK LATTICE_CART\n4 0 0\n0 4 0\n0 0 4\n%ENDBLOCK LATTICE_CART\n"
    atoms = "%BLOCK POSITIONS_FRAC\nNa 0 0 0\n%ENDBLOCK POSITIONS_FRAC\n"
    field = "%BLOCK EXTERNAL_EFIELD\n0 0 1\n%ENDBLOCK EXTERNAL_EFIELD\n"
    assert str(geometry(tmp_path, "a.cell", cell + atoms).atoms.symbols) == "Na"
    assert "EXTERNAL_EFIELD" in refused(tmp_path, "a.cell", cell + atoms + field)


def test_moments_of_a_cif_are_not_lost_without_a_word(tmp_path: Path):
    ase.io.write(tmp_path / "a.cif", Atoms("Fe", cell=[3, 3, 3], pbc=True))
    moments = "loop_\n_atom_site_moment.label\n_atom_site_moment.crystalaxis_z\nFe1 2\n"
    content = (tmp_path / "a.cif").read_text(encoding="utf-8") + moments
    assert any("moments" in note for note in geometry(tmp_path, "a.cif", content).notes)


@pytest.mark.parametrize(("second", "clear"), [("Na", True), ("K", False)])
def test_two_sites_at_one_place_of_a_cif(tmp_path: Path, second: str, clear: bool):
    ase.io.write(tmp_path / "a.cif", Atoms("NaCl", [[0, 0, 0], [1, 1, 1]], cell=[3] * 3, pbc=True))
    text = (tmp_path / "a.cif").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "_occupancy" not in line]
    lines = [line.removesuffix("1.0000").rstrip() for line in lines]
    site = next(line for line in lines if line.split()[:1] == ["Na"])
    content = "\n".join([*lines, site.replace("Na", second), ""])
    if clear:
        found = geometry(tmp_path, "b.cif", content)
        assert len(found.atoms) == 2
        assert any("repeat" in note for note in found.notes)
    else:
        assert "same place" in refused(tmp_path, "b.cif", content)


def test_a_macromolecular_cif_is_told_so(tmp_path: Path):
    content = "data_a\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n1 0.0\n"
    assert "macromolecular" in refused(tmp_path, "a.cif", content)


# ---- cells and velocities -------------------------------------------------------------------


def test_a_cell_said_once_is_that_of_all_models(tmp_path: Path):
    cell = "CRYST1   10.000   11.000   12.000  90.00  90.00  90.00 P 1\n"
    model = pdb((" O  ", "HOH")).replace("END\n", "ENDMDL\n")
    found = geometry(tmp_path, "a.pdb", cell + "MODEL 1\n" + model + "MODEL 2\n" + model)
    assert found.atoms.pbc.all()
    assert found.atoms.cell.lengths().tolist() == [10.0, 11.0, 12.0]


def test_the_cell_of_0_stands_for_none_too(tmp_path: Path):
    cell = "CRYST1    0.000    0.000    0.000  90.00  90.00  90.00 P 1\n"
    assert not geometry(tmp_path, "a.pdb", cell + pdb((" O  ", "HOH"))).atoms.pbc.any()


def test_what_has_a_cell_and_is_not_periodic_is_told_so(tmp_path: Path):
    ase.io.write(tmp_path / "a.traj", Atoms("H", cell=[3, 3, 3]))
    assert any("not periodic" in note for note in read_file(tmp_path / "a.traj").notes)


def test_velocities_are_not_taken_without_a_word(tmp_path: Path):
    water = molecule("H2O")
    water.set_momenta([[1, 0, 0]] * 3)
    ase.io.write(tmp_path / "a.traj", water)
    assert any("velocities" in note for note in read_file(tmp_path / "a.traj").notes)


# ---- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xyz", "1\n"),
        ("a.xyz", "1\n\nH 0 0 0\nH 0 0 1\n"),
        ("POSCAR", "x\n1\n4 0 0\n0 4 0\n0 0 4\nNa\n2\nC\n0 0 0\n"),
        ("POSCAR", "salt\n1\n4 0 0\n0 4 0\n0 0 4\n1\nC\n0 0 0\n"),
    ],
)
def test_reasons_are_not_those_of_python(tmp_path: Path, name: str, content: str):
    text = refused(tmp_path, name, content)
    words = ("StopIteration", "broadcast", "int()", "literal", "files []")
    assert not any(word in text for word in words), text


def test_a_word_where_a_number_should_be_is_named(tmp_path: Path):
    text = refused(tmp_path, "a.xyz", "1\n\nH 0.0 zero 0.0\n")
    assert "convert" not in text
    assert "zero" in text


def test_the_format_of_a_file_without_structures_is_named(tmp_path: Path):
    assert "CIF" in refused(tmp_path, "a.cif", "data_a\n_cell_length_a 3\n")


def test_what_is_named_as_compressed_and_is_not_is_told_so(tmp_path: Path):
    assert "unpacked" in refused(tmp_path, "a.pdb.gz", pdb((" O  ", "HOH")))
