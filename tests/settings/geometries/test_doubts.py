"""No doubtful structure is taken as a clear one: a message with its cause, or a note."""

from __future__ import annotations

import gzip
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.errors import StructureError
from aimspax_core.labels.dataset import DataKeys
from aimspax_core.labels.gate import check_structure
from aimspax_core.labels.relabelling import read_frames
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.geometries.files import frames_of, read_file

PYTHON = ("StopIteration", "KeyError", "IndexError", "LinAlgError", "ValueError", "int()")
CIF = """data_one
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
ATOM = (
    "ATOM  {n:5d}  {name:<3s}{alt:1s}GLY A   1    {x:8.3f}   0.000   0.000  1.00  0.00"
    "           {e}\n"
)


def pdb(*atoms: tuple[str, str, float]) -> str:
    return "".join(
        ATOM.format(n=n, name=name, alt=alt, x=x, e=name[0])
        for n, (name, alt, x) in enumerate(atoms, 1)
    )


def refused(folder: Path, name: str, content: str) -> str:
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(StructureError) as found:
        read_file(folder / name)
    text = str(found.value)
    assert str(folder / name) in text
    assert not any(word in text for word in PYTHON), text
    return text


def notes(folder: Path, name: str, content: str) -> tuple[str, ...]:
    (folder / name).write_text(content, encoding="utf-8")
    found = read_file(folder / name).notes
    assert all(name in note for note in found)
    return found


# ---- cells ----------------------------------------------------------------------------------


def test_periodic_without_a_cell(tmp_path: Path):
    header = 'Properties=species:S:1:pos:R:3 pbc="T T T"'
    text = refused(tmp_path, "a.xyz", f"1\n{header}\nO 0 0 0\n")
    assert "no cell there" in text


def test_periodic_along_a_vector_that_is_none(tmp_path: Path):
    header = 'Lattice="3 0 0 0 3 0 0 0 0" Properties=species:S:1:pos:R:3 pbc="T T T"'
    assert "along c" in refused(tmp_path, "a.xyz", f"1\n{header}\nO 0 0 0\n")


@pytest.mark.parametrize(
    "cell", ["3 0 0 3 0 0 0 0 3", "1 0 0 0 1 0 1 1 0", "5 0 0 5 0.001 0 0 0 5"]
)
def test_linearly_dependent_lattice_vectors(tmp_path: Path, cell: str):
    text = refused(
        tmp_path, "a.xyz", f'1\nLattice="{cell}" Properties=species:S:1:pos:R:3\nO 0 0 0\n'
    )
    assert "linearly dependent" in text


def test_a_slab_needs_no_third_vector_and_a_thin_cell_is_fine(tmp_path: Path):
    slab = Atoms("Cu", cell=[3, 3, 0], pbc=[True, True, False])
    for atoms in (slab, bulk("Cu"), Atoms("H", cell=[0.1, 30, 30], pbc=True)):
        ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
        assert (read_file(tmp_path / "a.xyz").atoms.pbc == atoms.pbc).all()


def test_left_handed_lattice_vectors_are_kept_and_noted(tmp_path: Path):
    header = 'Lattice="0 3 0 3 0 0 0 0 3" Properties=species:S:1:pos:R:3'
    (note,) = notes(tmp_path, "a.xyz", f"1\n{header}\nO 0 0 0\n")
    assert "left-handed" in note
    assert np.linalg.det(read_file(tmp_path / "a.xyz").atoms.cell.array) < 0


def test_atoms_on_top_of_each_other_across_the_boundary_are_said_to_be_so():
    atoms = Atoms("Cu2", [(0, 0, 0), (0, 0, 2.9)], cell=[3, 3, 3], pbc=True)
    with pytest.raises(StructureError, match=r"0.10 Å apart, across the boundary of the cell"):
        check_structure(atoms, Gate())


def test_a_cell_without_volume_stops_at_the_gate_too():
    with pytest.raises(StructureError, match="linearly dependent"):
        check_structure(Atoms("Cu", cell=[[3, 0, 0], [3, 0, 0], [0, 0, 3]], pbc=True), Gate())


# ---- CIF ------------------------------------------------------------------------------------


def test_sites_that_are_partly_occupied(tmp_path: Path):
    text = refused(tmp_path, "a.cif", CIF + "Cu Cu 0 0 0 0.5\nAu Au 0 0 0 0.5\nO O .5 .5 .5 1.0\n")
    assert "Cu 0.5 and Au 0.5" in text
    assert "0.9" in refused(tmp_path, "b.cif", CIF + "Cu Cu 0 0 0 0.9\n")


def test_whole_sites_are_clear(tmp_path: Path):
    assert notes(tmp_path, "a.cif", CIF + "Cu Cu 0 0 0 1.0\nO O .5 .5 .5 1.00\n") == ()


@pytest.mark.parametrize("open_", ["?", "."])
def test_an_occupancy_that_is_left_open_is_taken_as_whole(tmp_path: Path, open_: str):
    (note,) = notes(tmp_path, "a.cif", CIF + f"Cu Cu 0 0 0 {open_}\nO O .5 .5 .5 1.0\n")
    assert "left open" in note
    text = refused(tmp_path, "b.cif", CIF + f"Cu Cu 0 0 0 {open_}\nAu Au 0 0 0 0.5\n")
    assert "has another form" in text  # no reader of ASE takes a site of two without shares


def test_a_disordered_block_that_is_not_taken_does_not_matter(tmp_path: Path):
    whole = CIF + "Au Au 0 0 0 1.0\n"
    disordered = CIF.replace("data_one", "data_two") + "Cu Cu 0 0 0 0.5\n"
    (note,) = notes(tmp_path, "a.cif", disordered + whole)
    assert "the last one is taken" in note
    assert "Cu 0.5" in refused(tmp_path, "b.cif", whole + disordered)


def test_a_disordered_frame_of_a_dataset_fails_alone(tmp_path: Path):
    whole = CIF + "Au Au 0 0 0 1.0\n"
    disordered = CIF.replace("data_one", "data_two") + "Cu Cu 0 0 0 0.5\n"
    (tmp_path / "a.cif").write_text(disordered + whole)
    first, second = read_frames(tmp_path / "a.cif", DataKeys())[0]
    assert second.structure(DataKeys()).get_chemical_formula() == "Au"
    with pytest.raises(StructureError, match="occupied in part"):
        first.structure(DataKeys())


def test_a_broken_frame_that_is_not_taken_does_not_matter(tmp_path: Path):
    (note,) = notes(tmp_path, "a.xyz", "1\n\nQq 0 0 0\n1\n\nO 0 0 0\n")
    assert "another cannot be read" in note
    refused(tmp_path, "b.xyz", "1\n\nO 0 0 0\n1\n\nQq 0 0 0\n")


def test_several_blocks(tmp_path: Path):
    one = CIF + "Cu Cu 0 0 0 1.0\n"
    both = one + one.replace("data_one", "data_two").replace("Cu Cu", "Au Au")
    (note,) = notes(tmp_path, "a.cif", both)
    assert "the last one is taken" in note
    assert read_file(tmp_path / "a.cif").atoms.get_chemical_formula() == "Au"


# ---- PDB ------------------------------------------------------------------------------------


def test_alternate_locations(tmp_path: Path):
    text = refused(tmp_path, "a.pdb", pdb(("N", "", 0), ("CA", "A", 1.4), ("CA", "B", 1.6)))
    assert text.startswith(f"{tmp_path / 'a.pdb'}: line 3")
    assert "CA" in text


def test_one_alternate_location_is_clear(tmp_path: Path):
    assert notes(tmp_path, "a.pdb", pdb(("N", "", 0), ("CA", "A", 1.4))) == ()


def test_alternate_locations_of_a_model_that_is_not_taken_do_not_matter(tmp_path: Path):
    clear = pdb(("N", "", 0), ("CA", "", 1.4))
    twice = pdb(("N", "", 0), ("CA", "A", 1.4), ("CA", "B", 1.6))
    first = f"MODEL 1\n{twice}ENDMDL\nMODEL 2\n{clear}ENDMDL\nEND\n"
    assert len(notes(tmp_path, "a.pdb", first)) == 1
    last = f"MODEL 1\n{clear}ENDMDL\nMODEL 2\n{twice}ENDMDL\nEND\n"
    assert "CA" in refused(tmp_path, "b.pdb", last)
    frames = read_frames(tmp_path / "b.pdb", DataKeys())[0]
    assert len(frames[0].structure(DataKeys())) == 2
    with pytest.raises(StructureError, match="line 8: atom CA"):
        frames[1].structure(DataKeys())


def test_several_models_and_the_end_behind_them(tmp_path: Path):
    model = pdb(("N", "", 0), ("CA", "", 1.4))
    (note,) = notes(tmp_path, "a.pdb", f"MODEL 1\n{model}ENDMDL\nMODEL 2\n{model}ENDMDL\nEND\n")
    assert "the last one is taken" in note
    assert len(read_file(tmp_path / "a.pdb").atoms) == 2


def test_the_cell_that_stands_for_none(tmp_path: Path):
    cell = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n"
    (note,) = notes(tmp_path, "a.pdb", cell + pdb(("N", "", 0), ("CA", "", 1.4)))
    assert "stands for none" in note
    assert not read_file(tmp_path / "a.pdb").atoms.pbc.any()


# ---- XYZ and names --------------------------------------------------------------------------


def test_an_isotope_is_no_element(tmp_path: Path):
    assert "isotope" in refused(tmp_path, "a.xyz", "2\n\nO 0 0 0\nD 0 0 1\n")


@pytest.mark.parametrize("content", ["3\n\nO 0 0 0\n", "2\n\nO 0 0 0\nH 0 0\n", "1\n\nQq 0 0 0\n"])
def test_a_broken_file_is_told_in_a_users_words(tmp_path: Path, content: str):
    refused(tmp_path, "a.xyz", content)


def test_several_frames(tmp_path: Path):
    ase.io.write(tmp_path / "a.xyz", [molecule("H2O"), molecule("CO2"), molecule("CH4")])
    found = read_file(tmp_path / "a.xyz")
    assert found.atoms.get_chemical_formula() == "CH4"
    assert "the last one is taken" in found.notes[0]


@pytest.mark.parametrize("name", ["POSCAR", "a.gen", "a.extxyz", "a.cif", "a.traj", "geometry.in"])
def test_a_file_of_one_structure_is_taken_whole(tmp_path: Path, name: str):
    ase.io.write(tmp_path / name, bulk("Cu"))
    found = read_file(tmp_path / name)
    assert (len(found.atoms), found.notes) == (1, ())
    assert frames_of(tmp_path / name, slice(1, 2))[0] == []


@pytest.mark.parametrize("name", ["a@300K.xyz", "a@1:2.xyz", "wasser ä.xyz", "-a.xyz", "a[1]*.xyz"])
def test_names_of_files_are_names(tmp_path: Path, name: str):
    (tmp_path / name).write_text("1\n\nO 0 0 0\n", encoding="utf-8")
    assert len(read_file(tmp_path / name).atoms) == 1
    assert len(frames_of(tmp_path / name, slice(None))[0]) == 1


def test_an_xyz_called_geometry_in_is_read_as_what_it_is(tmp_path: Path):
    (note,) = notes(tmp_path, "geometry.in", "1\n\nO 0 0 0\n")
    assert "XYZ" in note


def test_a_geometry_in_called_xyz_is_read_as_what_it_is(tmp_path: Path):
    (note,) = notes(tmp_path, "a.xyz", "atom 0 0 0 O\n")
    assert "FHI-aims" in note


@pytest.mark.parametrize("name", ["a.xyz.gz", "geometry.in.gz", "a.cif.gz"])
def test_compressed_files_are_read_as_before(tmp_path: Path, name: str):
    ase.io.write(tmp_path / name, bulk("Cu"))
    assert read_file(tmp_path / name).atoms.get_chemical_formula() == "Cu"


def test_a_compressed_geometry_in_is_unpacked(tmp_path: Path):
    (tmp_path / "geometry.in.gz").write_bytes(gzip.compress(b"atom 0 0 0 O\n"))
    assert read_file(tmp_path / "geometry.in.gz").atoms.get_chemical_formula() == "O"
    (tmp_path / "geometry.in.gz").write_bytes(gzip.compress(b"atom 0 0 0 O\n" * 99)[:-20])
    with pytest.raises(StructureError, match="unpacked"):
        read_file(tmp_path / "geometry.in.gz")


@pytest.mark.parametrize(
    "name",
    ["geometry.in.cif", "relax.in.vasp", "x.in.POSCAR", "geometry.in.json", "a.in.xyz", "a.in.pdb"],
)
def test_a_name_with_in_may_be_of_another_format(tmp_path: Path, name: str):
    kind = name.rpartition(".")[2].lower().replace("pdb", "proteindatabank")
    ase.io.write(tmp_path / name, bulk("Cu"), format=kind.replace("poscar", "vasp"))
    found = read_file(tmp_path / name)
    assert (found.atoms.get_chemical_formula(), found.notes) == ("Cu", ())
    (tmp_path / name).write_text("atom 0 0 0 O\n")
    assert read_file(tmp_path / name).atoms.get_chemical_formula() == "O"


def test_an_xyz_with_a_blank_line_before_it_is_told_so(tmp_path: Path):
    assert "first line is not the number of atoms" in refused(tmp_path, "a.xyz", "\n1\n\nO 0 0 0\n")


def test_an_xyz_with_a_byte_order_mark(tmp_path: Path):
    (tmp_path / "a.xyz").write_text("1\n\nO 0 0 0\n", encoding="utf-8-sig")
    assert len(read_file(tmp_path / "a.xyz").atoms) == 1
