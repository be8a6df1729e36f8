"""FHI-aims's `geometry.in`: each keyword is kept, passed on, held, noted or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from ase.io.aims import parse_geometry_lines
from pyfhiaims.geometry.geometry import AimsGeometry as SecondReader

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.aims_reader import (
    AimsGeometry,
    canonical_aims_lines,
    read_aims_geometry,
)
from aimspax_core.settings.geometries.files import read_file
from aimspax_core.settings.geometries.keywords import KEYWORDS, Fate
from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind
from aimspax_core.structures import AIMS_LINES, encode, essence

WATER = "atom 0 0 0.119 O\natom 0 0.763 -0.477 H\natom 0 -0.763 -0.477 H\n"
CELL = "lattice_vector 5.43 0 0.1\nlattice_vector 0 5.43 0\nlattice_vector 0.3 0 5.43\n"
PEROVSKITE = (
    CELL + "atom_frac 0 0 0 Pb\n  initial_moment 0.5\natom_frac 0.3333333333 0.6667 0.2651 I\n"
    "  constrain_relaxation x\n  constrain_relaxation z\n  initial_charge -1\n"
    "atom_frac 0.5 0.5 0.5 I\n constrain_relaxation .true.\n"
)
WURTZITE = """\
lattice_vector 4.0 0 0
lattice_vector -2.0 3.4641016151377544 0
lattice_vector 0 0 6.0
atom_frac 0 0 0 Pb
atom_frac 0.6667 0.3333 0.75 I
symmetry_n_params 3 2 1
symmetry_params a c d0_z
symmetry_lv a, 0, 0
symmetry_lv -0.5*a, 0.8660254037844*a, 0
symmetry_lv 0, 0, c
symmetry_frac 0, 0, 0
symmetry_frac 0.6666666666667, 0.3333333333333, 1.0-d0_z
"""


def read(text: str) -> AimsGeometry:
    geometry, mistakes = read_aims_geometry(text)
    assert mistakes == []
    return geometry


def mistakes(text: str) -> list[tuple[MistakeKind, int | None, str]]:
    return [(m.kind, m.line, m.key) for m in read_aims_geometry(text)[1]]


def only(text: str) -> Mistake:
    (mistake,) = read_aims_geometry(text)[1]
    return mistake


# ---- what is well formed --------------------------------------------------------------------


@pytest.mark.parametrize("text", [WATER, PEROVSKITE, WURTZITE, CELL + WATER])
def test_what_ase_reads_is_read_to_the_last_bit_so_that_keys_of_labels_stay(text: str):
    ours, theirs = read(text).atoms, parse_geometry_lines(text.splitlines())
    assert encode(ours) == encode(theirs)


def test_constraints_are_those_that_ase_reads():
    fixed, line = read(PEROVSKITE).atoms.constraints
    assert isinstance(fixed, FixAtoms)
    assert isinstance(line, FixCartesian)
    assert fixed.index.tolist() == [2]
    assert (line.index.tolist(), line.mask.tolist()) == ([1], [True, False, True])


@pytest.mark.parametrize("text", [WATER, PEROVSKITE, CELL + WATER])
def test_a_second_reader_agrees(text: str):
    """pyfhiaims reads what is right; what is not, it passes over: a reader for tests alone."""
    ours, theirs = read(text).atoms, SecondReader.from_strings(text.splitlines())
    assert ours.get_chemical_symbols() == [atom.symbol for atom in theirs.atoms]
    np.testing.assert_allclose(ours.positions, [a.position for a in theirs.atoms], atol=1e-12)
    if ours.pbc.any():
        np.testing.assert_allclose(ours.cell.array, theirs.lattice_vectors)
    given = [atom.initial_charge or 0 for atom in theirs.atoms]
    assert ours.get_initial_charges().tolist() == given


@pytest.mark.parametrize(
    "text",
    [
        WATER.replace("0.763", "7.63d-1"),
        WATER.replace("0.763", "0.763D0"),
        WATER.replace("atom 0 0 ", "ATOM\t.0 +0. "),
        "\ufeff" + WATER,
        WATER.replace("\n", "\r\n"),
        WATER.replace("\n", " # a comment, and another\n"),
        "# relaxed\n\n" + WATER,
        WATER.replace("atom 0 0 0.119 O", "Atom 0, 0, 0.119 O"),
        WATER.replace(" H", " h"),
    ],
)
def test_another_spelling_is_the_same_structure(text: str):
    assert encode(read(text).atoms) == encode(read(WATER).atoms)


def test_atoms_may_be_given_in_both_kinds_of_coordinates():
    found = read(CELL + "atom 1 2 3 H\natom_frac 0.5 0.5 0.5 O\natom 0 0 1 H\n").atoms
    half = np.array([0.5, 0.5, 0.5]) @ found.cell.array
    np.testing.assert_allclose(found.positions, [(1, 2, 3), half, (0, 0, 1)])


# ---- mistakes -------------------------------------------------------------------------------


def test_a_misspelt_atom_is_no_atom_less_but_a_mistake_with_its_line():
    found = only(WATER.replace("atom", "aton", 1))
    assert (found.kind, found.line, found.nearest) == (MistakeKind.UNKNOWN_KEY, 1, "atom")


def test_what_follows_an_atom_that_cannot_be_read_is_not_given_to_the_one_before():
    text = "atom 0 0 0 O\naton 0 0 1 H\ninitial_moment 1.0\natom 0 1 0 H\n"
    assert mistakes(text) == [(MistakeKind.UNKNOWN_KEY, 2, "aton")]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("homogenous_field 0 0 1", MistakeKind.UNKNOWN_KEY),
        ("spam 1 2 3", MistakeKind.WRONG_LINE),
        ("atom 0 0 H", MistakeKind.WRONG_VALUE),
        ("atom 0 0 0 0 H", MistakeKind.WRONG_VALUE),
        ("atom 0 0 nan H", MistakeKind.WRONG_VALUE),
        ("atom 0 0 0 Hx", MistakeKind.WRONG_VALUE),
        ("atom 0 0 0 D", MistakeKind.WRONG_VALUE),
        ("atom 0 0 0 X", MistakeKind.WRONG_VALUE),
        ("initial_moment up", MistakeKind.WRONG_VALUE),
        ("constrain_relaxation a", MistakeKind.WRONG_VALUE),
        ("constrain_relaxation x y", MistakeKind.WRONG_VALUE),
        ("multipole 5 0 0 0", MistakeKind.WRONG_VALUE),
        ("empty 0 0 3 H", MistakeKind.REFUSED),
        ("pseudocore 0 0 3 H", MistakeKind.REFUSED),
        ("constraint_region 1", MistakeKind.REFUSED),
        ("lattice_vector 5 0 0", MistakeKind.WRONG_VALUE),
        ("atom_frac 0 0 0.5 H", MistakeKind.CONFLICT),
    ],
)
def test_a_line_that_cannot_be_kept_stops(line: str, kind: MistakeKind):
    (found,) = read_aims_geometry(WATER + line)[1]
    assert found.kind is kind
    assert line.split(maxsplit=1)[0] in str(found) or found.line == 4


@pytest.mark.parametrize("line", ["initial_moment 1.0", "velocity 0 0 1", "constrain_relaxation x"])
def test_what_speaks_of_an_atom_stands_behind_one(line: str):
    assert only(f"{line}\n{WATER}").kind is MistakeKind.MISPLACED


def test_moments_that_contradict_each_other_are_a_mistake():
    assert only(WATER + "initial_moment 1\ninitial_moment 2\n").kind is MistakeKind.TWICE
    assert mistakes(WATER + "initial_moment 1\ninitial_moment 1.0\n") == []


def test_all_mistakes_come_at_once():
    text = "aton 0 0 0 O\natom 0 0 x H\nlattice_vector 1 2\n"
    assert len(mistakes(text)) == 3


def test_another_file_is_not_told_line_by_line():
    found = read_aims_geometry("\n".join(f"line {n} of a letter" for n in range(100)))[1]
    assert found[-1].kind is MistakeKind.UNREADABLE
    assert len(found) < 30


def test_no_atoms_are_a_mistake():
    assert MistakeKind.UNREADABLE in {kind for kind, _, _ in mistakes(CELL)}


# ---- what is beside the structure -----------------------------------------------------------


def test_fields_and_point_charges_stay_with_the_structure_and_change_its_key():
    text = WATER + "homogeneous_field 0 0 1d-1\nmultipole 5 0 0 0 1.0\nset_vacuum_level 9.\n"
    atoms = read(text).atoms
    assert atoms.info[AIMS_LINES].split("; ") == [
        "homogeneous_field 0 0 0.1",
        "multipole 5 0 0 0 1.0",
        "set_vacuum_level 9.0",
    ]
    assert essence(atoms) != essence(read(WATER).atoms)


def test_a_field_of_nothing_is_none():
    found = read(WATER + "homogeneous_field 0. 0 0\n")
    assert AIMS_LINES not in found.atoms.info
    assert len(found.notes) == 1


def test_lines_in_a_dataset_are_read_as_those_of_a_file():
    assert canonical_aims_lines("Multipole 5 0 0 0 1d0") == "multipole 5 0 0 0 1.0"
    for wrong in ("atom 0 0 0 H", "multipole 5", "spam"):
        with pytest.raises(StructureError):
            canonical_aims_lines(wrong)


EXAMPLES = {
    "velocity": "velocity 0 0 1",
    "rt_tddft_initial_velocity": "RT_TDDFT_initial_velocity 0 0 1",
    "trust_radius": "trust_radius 0.2",
    "hessian_file": "hessian_file",
    "hessian_block": "hessian_block 1 1 1 0 0 0 1 0 0 0 1",
    "hessian_block_lv": "hessian_block_lv 1 1 1 0 0 0 1 0 0 0 1",
    "hessian_block_lv_atoms": "hessian_block_lv_atoms 1 1 1 0 0 0 1 0 0 0 1",
    "magnetic_response": "magnetic_response",
    "magnetic_moment": "magnetic_moment 2.8",
    "nuclear_spin": "nuclear_spin 0.5",
    "isotope": "isotope 13",
    "esp_constraint": "esp_constraint 1 2 3",
    "verbatim_writeout": "verbatim_writeout .false.",
    "calculate_friction": "calculate_friction .true.",
    "symmetry_frac_change_threshold": "symmetry_frac_change_threshold 1.0",
}


def test_each_keyword_that_means_nothing_here_has_an_example():
    assert set(EXAMPLES) == {name for name, k in KEYWORDS.items() if k.fate is Fate.NOTED}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_means_nothing_here_is_named_and_changes_nothing(name: str):
    found = read(WATER + EXAMPLES[name])
    (note,) = found.notes
    assert note.startswith(f"geometry.in:4  {name}: ")
    assert encode(found.atoms) == encode(read(WATER).atoms)


def test_lines_of_one_kind_are_one_note():
    (note,) = read(WATER.replace("\n", "\nvelocity 0 0 1\n")).notes
    assert note.startswith("geometry.in:2  ")
    assert "2 more" in note


def test_words_behind_the_values_are_left_out_with_a_note():
    found = read("atom 0 0 0 O the oxygen\natom 0 0 1 H ! bound\n")
    assert len(found.atoms) == 2
    assert [note.split("  ")[0] for note in found.notes] == ["geometry.in:1", "geometry.in:2"]


def test_a_constraint_of_a_lattice_vector_holds_no_atom():
    text = CELL.replace("0.1\n", "0.1\nconstrain_relaxation .true.\n") + WATER
    found = read(text)
    assert found.atoms.constraints == []
    assert len(found.notes) == 1


def test_where_parametric_constraints_begin_is_told():
    assert read(WURTZITE).parametric == 6
    assert read(WATER).parametric is None


# ---- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["geometry.in", "geometry.in.next_step", "geometry.in.supercell", "geometry.in.primitive",
     "geometry.in.0300K", "Geometry.IN", "water.in", "a@300K.in", "wässer: 1.in", "relaxed"],
)  # fmt: skip
def test_names_as_people_and_programs_give_them(tmp_path: Path, name: str):
    (tmp_path / name).write_text(WATER, encoding="utf-8")
    assert encode(read_file(tmp_path / name).atoms) == encode(read(WATER).atoms)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_whatever_the_editor_wrote(tmp_path: Path, encoding: str):
    (tmp_path / "geometry.in").write_bytes(f"# für Jürgen\n{WATER}".encode(encoding))
    assert encode(read_file(tmp_path / "geometry.in").atoms) == encode(read(WATER).atoms)


def test_mistakes_name_the_file_and_the_line(tmp_path: Path):
    file = tmp_path / "geometry.in"
    file.write_text(WATER.replace("atom", "aton"), encoding="utf-8")
    with pytest.raises(StructureError) as found:
        read_file(file)
    assert [line.split("  ")[0] for line in str(found.value).splitlines()] == [
        f"{file}:{n}" for n in (1, 2, 3)
    ]


def test_a_structure_alone_says_nothing_beside_it():
    assert isinstance(read(WATER).atoms, Atoms)
    assert read(WATER).notes == ()


@pytest.mark.parametrize("behind", ["1", "H1 1.008", "-0.5 0.1 # charges"])
def test_what_stands_behind_a_whole_site_is_left_out(behind: str):
    found = read(f"atom 0 0 0 H {behind}\n")
    assert found.atoms.get_chemical_formula() == "H"
    assert "left out" in found.notes[0]
    assert mistakes("atom 0 0 0 0 H\n") == [(MistakeKind.WRONG_VALUE, 1, "atom")]
