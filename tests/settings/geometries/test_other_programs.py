"""What files of other programs say is taken, held, told or refused, as ASE's readers do not."""

from __future__ import annotations

import gzip
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import open_with_compression

from aimspax_core.errors import StructureError
from aimspax_core.labels.dataset import DataKeys
from aimspax_core.labels.relabelling import read_frames
from aimspax_core.reference.electrons import own_or
from aimspax_core.settings.geometries.files import read_file
from aimspax_core.settings.geometries.force_field_names import complete_history
from aimspax_core.settings.geometries.said_in_formats import (
    electrons_of,
    notes_on_electrons,
    refused_of,
)
from tests.geometry_files import geometry, refused

# ---- SHELX ----------------------------------------------------------------------------------

SHELX = """TITL x in P1
CELL 0.71 4 5 6 90 91 90
ZERR 2 0.001 0.001 0.001 0 0 0
LATT -1
SFAC C H O
UNIT 2 4 2 0 0 0
FVAR 0.5 0.3
C1 1 0.1 0.1 0.1 11.00000 0.02 0.03 =
 0.01 0.02 0.0 0.0
HC1 2 10.25 0.1 0.3 11.0 -1.2
O1A 3 .5 .5 .5 1.0 0.5
HKLF 4 1 1 0 0 0 1 0 0 0 1
END
Q1 1 0.3 0.3 0.3 11.0 0.05 1.2
"""


def test_labels_of_shelx_have_the_elements_of_sfac(tmp_path: Path):
    atoms = geometry(tmp_path, "a.res", SHELX).atoms
    assert atoms.get_chemical_symbols() == ["C", "H", "O"]
    assert np.allclose(atoms.get_scaled_positions()[1], (0.25, 0.1, 0.3))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("LATT -1", "LATT 1", "symmetry"),
        ("LATT -1\n", "", "no LATT -1"),
        ("FVAR", "SYMM -X, -Y, Z\nFVAR", "symmetry"),
        ("O1A", "PART 1\nO1A", "disorder"),
        ("O1A 3 .5 .5 .5 1.0", "O1A 3 .5 .5 .5 10.5", "in part"),
        ("O1A 3 .5 .5 .5 1.0", "O1A 3 .5 .5 .5 21.0", "in part"),
        ("O1A 3 .5 .5 .5 1.0", "O1A 3 .5 .5 .5 5.0e-1", "(5.0e-1)"),
        ("O1A 3", "O1A 4", "kind 4"),
        ("O1A 3 .5", "O1A 3 21.0", "free variable"),
        ("O1A 3 .5", "O1A 3 half", "line 11: 'O1A 3 half"),
        ("O1A 3 .5 .5 .5 1.0 0.5", "O1A 3 .5 .5", "line 11"),
        ("O1A 3", "+more.ins\nO1A 3", "line 11: '+more.ins'"),
        ("SFAC C", "SFAC C4+", "C4+"),
    ],
)
def test_what_shelx_says_beside_atoms_is_not_lost(tmp_path: Path, old: str, new: str, why: str):
    assert why in refused(tmp_path, "a.res", SHELX.replace(old, new))


@pytest.mark.parametrize("label", ["O1", "O1'", "O(1)", 'O1"', "O1*"])
@pytest.mark.parametrize(
    ("place", "read"),
    [
        ("1.0E-05 .2 .3", (1e-5, 0.2, 0.3)),
        ("1e-17 0. -1.D-1", (1e-17, 0.0, -0.1)),
        ("10. +.5 1.", (0.0, 0.5, 1.0)),
        (".5 .5 =\n .25", (0.5, 0.5, 0.25)),
    ],
)
def test_no_atom_of_shelx_is_passed_over(
    tmp_path: Path, label: str, place: str, read: tuple[float, float, float]
):
    content = SHELX.replace("O1A 3 .5 .5 .5", f"{label} 3 {place}")
    atoms = geometry(tmp_path, "a.res", content).atoms
    assert atoms.get_chemical_symbols() == ["C", "H", "O"]
    assert np.allclose(atoms.get_scaled_positions(wrap=False)[2], read, rtol=0, atol=1e-15)


def test_remarks_and_fragments_of_shelx_are_no_atoms(tmp_path: Path):
    fragment = "FRAG 17 1 1 1 90 90 90\nC9 1 0.0 0.1 0.2\nFEND\n"
    remarks = "REM O9 3 0.1 0.1 0.1 =\n a remark\n\nSADI_W 0.02 O1A C1 ! O9 3 0.1 0.1 0.1\n"
    content = SHELX.replace("O1A 3", f"{fragment}{remarks}O1A 3")
    assert geometry(tmp_path, "a.res", content).atoms.get_chemical_symbols() == ["C", "H", "O"]


# ---- Gaussian -------------------------------------------------------------------------------

GAUSSIAN = """%chk=a.chk
#p b3lyp/6-31g opt

title

1 1
C 0 0.0 0.0 0.0
O -1 0 0.0 1.2
H(iso=2) -1 0.0 0.9 -0.6
H 0 -0.9 -0.6

"""


def test_freeze_codes_of_gaussian_hold_atoms(tmp_path: Path):
    found = geometry(tmp_path, "a.com", GAUSSIAN)
    assert found.atoms.get_chemical_symbols() == ["C", "O", "H", "H"]
    assert found.held.fixed == (1, 2)
    assert found.atoms.positions[3].tolist() == [0, -0.9, -0.6]


@pytest.mark.parametrize("keyword", ["field=x+10", "charge", "units=au"])
def test_keywords_that_change_the_system_are_refused(tmp_path: Path, keyword: str):
    assert keyword in refused(tmp_path, "a.com", GAUSSIAN.replace(" opt", f" {keyword}"))


# ---- VASP -----------------------------------------------------------------------------------

POSCAR = """{title}
1.0
4 0 0
0 4 0
0 0 4
{elements}1 1
Selective dynamics
Cartesian
0 0 0 {flags}
2 2 2 T T T
{more}"""


@pytest.mark.parametrize("flags", ["F F T", ".FALSE. f .TRUE."])
def test_every_spelling_of_a_flag_holds(tmp_path: Path, flags: str):
    content = POSCAR.format(title="x", elements="Na Cl\n", flags=flags, more="")
    lines = geometry(tmp_path, "POSCAR", content).held.lines
    assert lines == (((0.0, 0.0, 1.0), (0,)),)


def test_a_flag_that_is_none_and_a_position_too_many_are_refused(tmp_path: Path):
    wrong = POSCAR.format(title="x", elements="Na Cl\n", flags="F no T", more="")
    assert "line 10" in refused(tmp_path, "POSCAR", wrong)
    more = POSCAR.format(title="x", elements="Na Cl\n", flags="F F T", more="1 1 1 T T T\n")
    assert "line 12" in refused(tmp_path, "POSCAR", more)


def test_elements_that_are_not_where_they_belong_are_told(tmp_path: Path):
    content = POSCAR.format(title="Na Cl", elements="", flags="T T T", more="")
    assert any("VASP 4" in note for note in geometry(tmp_path, "POSCAR", content).notes)


# ---- names of force fields ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "element"), [("OW", "O"), ("Na+", "Na"), ("NA", None), ("ca", None)]
)
def test_names_of_dl_poly_and_gromos_are_no_elements(
    tmp_path: Path, name: str, element: str | None
):
    config = f"t\n0 0 1\n{name} 1\n0.0 0.0 0.0\n"
    gromos = f"TITLE\nt\nEND\nPOSITION\n    1 LIG   {name:<5s}      1    0.0 0.0 0.0\nEND\n"
    for file, content in (("CONFIG", config), ("a.g96", gromos)):
        if element is None:
            assert f"atom {name} " in refused(tmp_path, file, content)
        else:
            assert str(geometry(tmp_path, file, content).atoms.symbols) == element


def test_masses_of_a_history_tell_a_wrong_name():
    with pytest.raises(StructureError, match="mass"):
        complete_history([Atoms("Ca", masses=[12.01])], "")
    assert complete_history([Atoms("C", masses=[12.01])], "")


# ---- charge, spin and fields ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("abinit-in", "natom 1\ncellcharge 1.0 # charge 2", {"charge": 1.0}),
        ("aims-output", "  Charged system requested: Charge =   -1.000000E+00.", {"charge": -1.0}),
        ("castep-castep", " net charge of system     :  1.000", {"charge": 1.0}),
        (
            "cjson",
            '{"properties": {"totalCharge": -1, "totalSpinMultiplicity": 2}}',
            {"charge": -1.0, "spin": 2.0},
        ),
        (
            "cp2k-restart",
            " &DFT\n   CHARGE  1\n   MULTIPLICITY  2\n",
            {"charge": 1.0, "spin": 2.0},
        ),
        (
            "cp2k-restart",
            "&FORCE_EVAL\n &MM\n &FORCEFIELD\n &CHARGE\n ATOM O\n CHARGE -0.8\n &END CHARGE\n"
            " &END FORCEFIELD\n &END MM\n &DFT\n &SCF\n CHARGE 3\n &END SCF\n MULTIPLICITY 0\n"
            " &END\n&END\n",
            {},
        ),
        ("cp2k-restart", " &DFT\n &QS\n &END QS\n CHARGE 2\n&END DFT\n", {"charge": 2.0}),
        ("dftb", "Hamiltonian = DFTB {\n  Charge = 1.0\n", {"charge": 1.0}),
        (
            "gamess-us-out",
            " CHARGE OF MOLECULE    =   -1\n SPIN MULTIPLICITY  =    2\n",
            {"charge": -1.0, "spin": 2.0},
        ),
        ("gaussian-out", " Charge =  1 Multiplicity = 2\n", {"charge": 1.0, "spin": 2.0}),
        ("gaussian-out", " Charge =  0 Multiplicity = 1\n", {"charge": 0.0, "spin": 1.0}),
        ("nwchem-in", "charge -1\n", {"charge": -1.0}),
        (
            "nwchem-out",
            "   Charge           :  1\n   Spin multiplicity:  2\n",
            {"charge": 1.0, "spin": 2.0},
        ),
        ("octopus-in", "ExcessCharge = -1\n", {"charge": -1.0}),
        ("onetep-in", "charge : 2\n", {"charge": 2.0}),
        (
            "orca-output",
            " Total Charge           Charge          ....    1\n"
            " Multiplicity           Mult            ....    2\n",
            {"charge": 1.0, "spin": 2.0},
        ),
        ("vasp", "charge = 1", {}),
    ],
)
def test_charge_and_multiplicity_of_formats(kind: str, text: str, said: dict[str, float]):
    assert electrons_of(kind, text) == said


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("abinit-in", "natom 2\n natfix 1", "natfix"),
        ("abinit-in", "natrd 2", "natrd"),
        ("abinit-out", ".Version 9.0 of ABINIT\n rprim 0 0.5 0.5", "ABINIT"),
        ("aims-output", "  homogeneous_field 0 0 0.1", "homogeneous_field"),
        ("castep-cell", "%block external_efield", "external_efield"),
        ("cfg", "A = 2.0 Angstrom", "A = 2.0"),
        ("cp2k-restart", " &PERIODIC_EFIELD", "PERIODIC_EFIELD"),
        ("cp2k-restart", " &FIXED_ATOMS", "FIXED_ATOMS"),
        ("dftb", " TypesAndCoordinates = {", "TypesAndCoordinates"),
        ("dftb", " LatticeVectors [Bohr] = {", "LatticeVectors"),
        ("dmol-car", "PBC 4 4 4 90 90 90 (FM-3M)", "FM-3M"),
        ("espresso-in", " tefield = .true.", "tefield"),
        ("espresso-in", " space_group = 225", "space_group"),
        ("nwchem-in", "geometry units au", "units au"),
        ("nwchem-in", "geometry\n h 0.0 0.0 1.0\nend", "h 0.0 0.0 1.0"),
        ("nwchem-in", "geometry\n symmetry c1h\nend", "symmetry"),
        ("nwchem-in", "geometry\n symmetry group c2v\nend", "symmetry"),
        ("octopus-in", "%StaticElectricField", "StaticElectricField"),
        ("turbomole", "$coord angs", "$coord angs"),
        ("xsd", 'NumImageMappings="3"', "NumImageMappings"),
    ],
)
def test_what_changes_the_system_and_is_not_read_is_refused(kind: str, text: str, found: str):
    assert found in (refused_of(kind, text) or "")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("cfg", "A = 1.0 Angstrom"),
        ("dftb", " TypesAndCoordinates [Angstrom] = {\n LatticeVectors [AA] {"),
        ("dmol-car", "PBC 4 4 4 90 90 90 (P1)"),
        ("espresso-in", " tefield = .false. ! tefield = .true."),
        ("nwchem-in", "geometry\n symmetry c1\nend"),
        ("nwchem-in", "geometry\n symmetry group C1\nend"),
        ("nwchem-in", "geometry units angstrom\n H 0.0 0.0 1.0\nend"),
        ("turbomole", "$coord"),
        ("xsd", 'NumImageMappings="0"'),
    ],
)
def test_what_is_read_is_not_refused(kind: str, text: str):
    assert refused_of(kind, text) is None


ABINIT = """acell 3*10.0 angstrom
rprim 1 0 0 0 1 0 0 0 1
natom 2 ntypat 1 typat 2*1 znucl 14
xred 3*0.0 3*1/4
"""
NWCHEM = "geometry\n symmetry c1\n N 0.0 0.0 0.0\n O 0.0 0.0 1.1\nend\n\n"
ESPRESSO = """&CONTROL
/
&SYSTEM
 ibrav=0, nat=1, ntyp=1, tot_charge=1, {spin}
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
    ("name", "content", "noted"),
    [
        ("a.nwi", "charge 0\n" + NWCHEM, ("charge +0 is taken",)),
        ("a.nwi", NWCHEM, ()),
        ("a.nwi", NWCHEM + "dft\n mult 2\nend\n", ("'mult 2' is not taken",)),
        ("a.nwi", NWCHEM + "scf\n doublet\nend\n", ("'doublet' is not taken",)),
        ("a.nwi", NWCHEM + "scf\n nopen 1\nend\n", ("'nopen 1' is not taken",)),
        ("scf.in", ESPRESSO.format(spin=""), ("charge +1 is taken",)),
        (
            "scf.in",
            ESPRESSO.format(spin="tot_magnetization = 2"),
            ("charge +1 is taken", "its 'tot_magnetization = 2' is not taken"),
        ),
        ("x.abi", ABINIT + "spinmagntarget 2.0\n", ("'spinmagntarget 2.0' is not taken",)),
    ],
)
def test_what_is_taken_of_charge_and_spin_and_what_is_not_is_said(
    tmp_path: Path, name: str, content: str, noted: tuple[str, ...]
):
    notes = geometry(tmp_path, name, content).notes
    notes = [note for note in notes if " is read as " not in note]
    assert len(notes) == len(noted)
    assert all(text in note for text, note in zip(noted, notes, strict=True))


@pytest.mark.parametrize(
    ("kind", "text", "noted"),
    [
        ("dftb", "  UnpairedElectrons = 2\n", "UnpairedElectrons = 2"),
        ("onetep-in", "spin : 1\nspin_polarized : T\n", "spin : 1"),
        ("onetep-in", "spin_polarized : T\n", ""),
    ],
)
def test_unpaired_electrons_of_formats_are_not_lost_without_a_word(
    kind: str, text: str, noted: str
):
    assert noted in "".join(notes_on_electrons(kind, text, {}))
    assert bool(noted) == any(notes_on_electrons(kind, text, {}))


def test_a_neutral_singlet_of_an_output_holds_before_settings(tmp_path: Path):
    gaussian = " Charge =  0 Multiplicity = 1\n"
    assert own_or(Atoms("N2", info=electrons_of("gaussian-out", gaussian)), 1, 2) == (0, 1)


@pytest.mark.parametrize("name", ["z.json", "z.json.gz", "Y.JSON", "z.json.bz2"])
def test_a_database_is_told_by_its_format_however_it_is_called(tmp_path: Path, name: str):
    with ase.db.connect(tmp_path / "plain.json") as database:
        database.write(Atoms("NO"), charge=1)
    content = (tmp_path / "plain.json").read_bytes()
    with open_with_compression(str(tmp_path / name), "wb") as file:
        file.write(content)
    found = read_file(tmp_path / name)
    assert str(found.atoms.symbols) == "NO"
    assert found.atoms.info["charge"] == 1


def test_a_compressed_database_of_sqlite_is_told_to_be_one(tmp_path: Path):
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(Atoms("NO"))
    (tmp_path / "a.db.gz").write_bytes(gzip.compress((tmp_path / "a.db").read_bytes()))
    with pytest.raises(StructureError, match="unpack it"):
        read_file(tmp_path / "a.db.gz")


def test_pairs_of_a_database_have_charge_and_spin(tmp_path: Path):
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(Atoms("NO"), charge=1, spin=1)
    found = read_file(tmp_path / "a.db")
    assert (found.atoms.info["charge"], found.atoms.info["spin"]) == (1, 1)
    assert not {"charge", "spin"} & {*found.before.info}


XYZ = "2\n{comment}\nN 0 0 0{more}\nO 0 0 1.1{more}\n"


@pytest.mark.parametrize(
    ("comment", "noted"),
    [
        ("multiplicity=2", "multiplicity"),
        ("Charge=1", "Charge"),
        ("1 1", "1 1"),
        ("0 1", ""),
        ("charge=1 multiplicity=1", ""),
        ("energy=2", ""),
        ("", ""),
    ],
)
def test_charge_and_spin_under_other_names_are_not_lost_without_a_word(
    tmp_path: Path, comment: str, noted: str
):
    content = XYZ.format(comment=comment, more="")
    for notes in (
        geometry(tmp_path, "a.xyz", content).notes,
        read_frames(tmp_path / "a.xyz", DataKeys())[1],
    ):
        assert bool(notes) == bool(noted)
        assert all(noted in note for note in notes)


@pytest.mark.parametrize("column", ["magmom", "magmoms", "charge", "charges"])
def test_results_of_atoms_are_not_lost_without_a_word(tmp_path: Path, column: str):
    comment = f"Properties=species:S:1:pos:R:3:{column}:R:1"
    notes = geometry(tmp_path, "a.xyz", XYZ.format(comment=comment, more=" 0.5")).notes
    assert any(column in note for note in notes)


def test_initial_moments_are_taken_and_moments_beside_them_not_noted(tmp_path: Path):
    atoms = Atoms("NO", [[0, 0, 0], [0, 0, 1.1]], magmoms=[1, 0])
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, magmoms=[0.7, 0.3])
    ase.io.write(tmp_path / "a.traj", atoms)
    found = read_file(tmp_path / "a.traj")
    assert found.atoms.get_initial_magnetic_moments().tolist() == [1, 0]
    assert found.notes == ()


# ---- formats by content ---------------------------------------------------------------------

LAMMPS = """{head}

1 atoms
1 atom types
0 4 xlo xhi
0 4 ylo yhi
0 4 zlo zhi

Masses

1 22.99

Atoms # atomic

1 1 0 0 0
"""


@pytest.mark.parametrize("name", ["x.data", "data.salt", "salt.lmp"])
def test_a_data_file_of_lammps_is_told_by_its_content(tmp_path: Path, name: str):
    assert str(geometry(tmp_path, name, LAMMPS.format(head="x")).atoms.symbols) == "Na"


@pytest.mark.parametrize(("units", "clear"), [("real", True), ("metal", True), ("lj", False)])
def test_units_that_a_data_file_of_lammps_says(tmp_path: Path, units: str, clear: bool):
    content = LAMMPS.format(head=f"LAMMPS data file via write_data, units = {units}")
    if clear:
        assert not any("units" in n for n in geometry(tmp_path, "x.data", content).notes)
    else:
        assert units in refused(tmp_path, "x.data", content)


def test_repeated_numbers_of_abinit_and_a_missing_cell(tmp_path: Path):
    atoms = geometry(tmp_path, "run.abi", ABINIT).atoms
    assert str(atoms.symbols) == "Si2"
    assert np.allclose(atoms.positions[1], 2.5)
    assert "no acell" in refused(tmp_path, "run.abi", ABINIT.replace("acell 3*10.0 angstrom", ""))


def test_files_of_eon_are_periodic(tmp_path: Path):
    ase.io.write(tmp_path / "a.con", Atoms("Na", cell=[4, 4, 4], pbc=True))
    assert read_file(tmp_path / "a.con").atoms.pbc.all()


def test_an_input_of_another_program_is_told_to_be_one(tmp_path: Path):
    text = refused(tmp_path, "elk.in", "tasks\n0\navec\n1.0 0.0 0.0\n")
    assert len(text.splitlines()) == 1
    assert "is it one" in text
    lammps = "variable a index b\nunits real\nvelocity all create 300 1\nrun 10\n"
    assert "is it one" in refused(tmp_path, "in.in", lammps)
    assert "did you mean atom" in refused(tmp_path, "geometry.in", "atmo 0 0 0 H\n")


def test_reasons_name_the_form_that_is_not_read(tmp_path: Path):
    molfile = "x\n\n\n  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\n"
    assert "V3000" in refused(tmp_path, "a.mol", molfile)
    crystal = "TITLE x\nCELL\n4 4 4 90 90 90\nATOMS\nNAME X Y Z\nNa 0 0 0\nEOF\n"
    assert "TITLE x" in refused(tmp_path, "a.xtl", crystal)
