"""The user's `control.in`: what is read of it, refused, noted and written again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimspax_core.settings.aims_control.control import Control, Keyword
from aimspax_core.settings.aims_control.keywords import GENERAL, NO_ANSWER, SPECIES

WATER = """\
# Water, one molecule
xc                 pbe
spin               none
relativistic       none
charge             0.
occupation_type    gaussian 0.02
mixer              pulay
  n_max_pulay      8
  charge_mix_param 0.35
sc_accuracy_rho    2E-5
sc_iter_limit      120
"""
SILICON = """\
XC\tPBEsol
Relativistic\tatomic_zora scalar
K_GRID\t5 5 5   # converged
k_offset 0. .5 1.D-1
output band  0.0 0.0 0.0  0.5 0.0 0.5  25 G X
output band  0.5 0.0 0.5  0.5 0.25 0.75 15 X W
output dos -14. 8. 900 0.15
"""
HYBRID = """\
xc hse06 0.2
hse_unit A
hybrid_xc_coeff 0.3
RI_method LVL_fast
exx_band_structure_version 1
k_grid 3, 3, 2
elsi_restart read_and_write 25
"""
CUBES = """\
xc blyp
output cube total_density
  cube origin 0.1 0.2 -0.3
  cube edge 41 0.2 0.0 0.0
  cube edge 41 0.0 0.2 0.0
  cube edge 61 0.0 0.0 0.2
output cube eigenstate 7
  cube filename homo.cube
output mulliken
"""
DISPERSION = """\
xc revpbe
many_body_dispersion beta=0.79
vdw_pair_ignore Pt Pt
vdw_pair_ignore Pt F
many_body_dispersion_nl
vdw_correction_hirshfeld .TRUE.
"""
MAGNET = """\
xc rpbe
spin collinear
default_initial_moment hund
fixed_spin_moment 3.0
include_spin_orbit
preconditioner kerker 1.8
preconditioner turnoff charge 1d-3
mixer_threshold charge 1.5
mixer_threshold spin 0.8
adjust_scf always 2
"""
SLAB = """\
xc pw-lda
relativistic zora scalar 1e-11
use_dipole_correction
evaluate_work_function T
compensate_multipole_errors .true.
k_grid 6 4 1
occupation_type methfessel-paxton 0.15 1
"""
CONSTRAINED = """\
xc pbe0
spin collinear
constraint_electrons 1 7 6
constraint_electrons 2 9 10
force_occupation_projector 14 1 0.0 14 16
restart start.here
KS_method serial
"""
LIBXC = """\
xc libxc MGGA_X_SCAN+MGGA_C_SCAN
override_warning_libxc true
xc_pre pbe 12
density_update_method density_matrix
"""
ESP = """\
xc b3lyp
charge -1
output esp
esp radius 2.5 6.
esp grid 3
"""
SCREENING = """\
xc dfauto r2scan
k_grid_density 6.5
symmetry_reduced_k_grid .false.
elsi_elpa_solver 2
use_gpu .true.
walltime 7200
"""
WITH_SPECIES = """\
xc am05
  species        O
    nucleus      8
    cut_pot      3.4 1.6 1.0
    angular_grids specified
     division   0.25   50
    outer_grid 302
    valence      2  p   4.
    hydro 2 p 1.9
#    hydro 3 d 7.4
  species Fe
nucleus 26
plus_u 3 d 4.1
include_min_basis .true.
final_forces_cleaned .true.
sc_accuracy_forces 3E-4
"""
EXAMPLES = [
    WATER,
    SILICON,
    HYBRID,
    CUBES,
    DISPERSION,
    MAGNET,
    SLAB,
    CONSTRAINED,
    LIBXC,
    ESP,
    SCREENING,
    WITH_SPECIES,
]


def _pairs(control: Control) -> list[tuple[str, tuple[str, ...]]]:
    return [(k.name, k.values) for k in control.keywords]


def _only(text: str) -> str:
    """Return the one mistake that a line makes beside a good one."""
    _, mistakes = Control.parse(f"xc pbe\n{text}")
    assert len(mistakes) == 1
    return str(mistakes[0])


def _notes(text: str) -> tuple[str, ...]:
    control, mistakes = Control.parse(text)
    assert not mistakes
    return control.notes


@pytest.mark.parametrize("text", EXAMPLES)
def test_real_looking_files_are_accepted(text):
    assert Control.parse(text)[1] == []


@pytest.mark.parametrize("text", EXAMPLES)
def test_what_is_written_is_read_again(text):
    control, _ = Control.parse(text)
    assert _pairs(Control.parse(control.text())[0]) == _pairs(control)


def test_every_line_of_a_file_without_species_becomes_a_keyword():
    lines = [line.partition("#")[0].split() for line in WATER.splitlines()]
    expected = [(name, tuple(values)) for name, *values in filter(None, lines)]
    assert _pairs(Control.parse(WATER)[0]) == expected


def test_lines_are_counted_from_one_with_comments():
    assert Control.parse(WATER)[0].keywords[0] == Keyword("xc", ("pbe",), 2)


def test_keywords_get_the_spelling_of_fhi_aims():
    names = [
        k.name for k in Control.parse("XC pbe\nks_METHOD serial\nRelativistic none")[0].keywords
    ]
    assert names == ["xc", "KS_method", "relativistic"]


@pytest.mark.parametrize("ending", ["\r\n", "\r", " \t\n"])
def test_line_endings_of_any_system_are_read(ending):
    assert _pairs(Control.parse(WATER.replace("\n", ending))[0]) == _pairs(Control.parse(WATER)[0])


def test_commas_between_numbers_are_blanks():
    assert Control.parse("xc pbe\nk_grid 3,4, 5")[0].get("k_grid") == ("3", "4", "5")


def test_a_flag_without_a_value_is_on():
    control, _ = Control.parse("xc pbe\nmany_body_dispersion")
    assert control.flag("many_body_dispersion") and not control.flag("vdw_correction_hirshfeld")


@pytest.mark.parametrize("value", [".false.", "F", "f", "false", ".FALSE."])
def test_fortrans_false_is_false(value):
    control, mistakes = Control.parse(f"xc pbe\nfinal_forces_cleaned {value}")
    assert not mistakes
    assert not control.flag("final_forces_cleaned", default=True)


@pytest.mark.parametrize(
    ("value", "number"), [("1d-5", 1e-5), ("1.D0", 1.0), (".5", 0.5), ("0.", 0.0), ("-2", -2.0)]
)
def test_fortrans_numbers_are_numbers(value, number):
    control, mistakes = Control.parse(f"xc pbe\ncharge {value}")
    assert not mistakes
    assert control.number("CHARGE") == number


def test_the_number_of_a_missing_keyword_is_the_default():
    assert Control(()).number("charge", 2.0) == 2.0


def test_a_keyword_is_replaced_where_it_was():
    control = Control.parse("xc pbe\noutput mulliken\noutput dos 1 2 3 4\nspin none")[0]
    replaced = control.with_("OUTPUT", "dipole")
    assert [k.name for k in replaced.keywords] == ["xc", "output", "spin"]
    assert replaced.get("output") == ("dipole",)


def test_a_new_keyword_comes_last():
    control = Control.parse("xc pbe")[0].with_("compute_forces", ".true.")
    assert control.keywords[-1] == Keyword("compute_forces", (".true.",), 0)


def test_a_keyword_can_be_taken_out():
    assert Control.parse(SLAB)[0].without("K_Grid").get("k_grid") is None


def test_species_blocks_are_left_out_with_one_note():
    control, _ = Control.parse(WITH_SPECIES)
    assert control.species == ("O", "Fe")
    assert "line 2: the species blocks are left out (O, Fe)" in control.notes[0]


def test_keywords_after_species_blocks_are_kept():
    names = [k.name for k in Control.parse(WITH_SPECIES)[0].keywords]
    assert names == ["xc", "final_forces_cleaned", "sc_accuracy_forces"]


def test_a_hubbard_u_that_is_lost_is_told():
    notes = [n for n in Control.parse(WITH_SPECIES)[0].notes if "plus_u" in n]
    assert len(notes) == 1
    assert notes[0].startswith("line 13: ")
    assert "Fe" in notes[0]


def test_an_unknown_keyword_within_a_species_block_stays_there():
    control, mistakes = Control.parse("xc pbe\nspecies H\nnucleus 1\nnew_thing 3\nmass 1.008")
    assert not mistakes
    assert control.get("new_thing") is None
    assert any("line 4" in n and "new_thing" in n for n in control.notes)


def test_an_unknown_keyword_after_the_last_species_block_is_kept():
    assert Control.parse("xc pbe\nspecies H\nnucleus 1\nnew_thing 3\nspin none")[0].get("new_thing")


def test_the_terms_of_a_contracted_gaussian_are_left_out_with_their_species_block():
    terms = "gaussian 0 3\n  131.25 1.9d-3\n 25.5E0 .045\n  4.1 0.15\ngaussian 1 1 0.75\n"
    control, mistakes = Control.parse(f"xc pbe\nspecies H\nnucleus 1\n{terms}spin none")
    assert not mistakes
    assert _pairs(control) == [("xc", ("pbe",)), ("spin", ("none",))]


def test_numbers_after_a_general_keyword_are_no_terms_of_a_gaussian():
    assert "found '2.5 0.1'" in _only("species H\nnucleus 1\nspin none\n2.5 0.1")


def test_a_species_keyword_without_a_block_is_refused():
    assert "species_dir" in _only("cut_pot 3.5 1.5 1.0")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("MD_run 2.0 NVE", "moves the atoms itself"),
        ("MD_time_step 0.001", "moves the atoms itself"),
        ("MD_something_new 3", "moves the atoms itself"),
        ("relax_geometry bfgs 1e-2", "moves the atoms itself"),
        ("relax_unit_cell fixed_angles", "moves the atoms itself"),
        ("use_pimd_wrapper localhost 31415", "i-PI"),
        ("communicate_pimd_wrapper dipole", "i-PI"),
        ("calculate_friction numerical_friction", "single point"),
        ("phonon supercell 2 2 2", "phonons"),
        ("DFPT vibration", "phonons"),
        ("dry_run", "computes nothing"),
    ],
)
def test_more_than_one_single_point_is_refused_with_the_reason(line, reason):
    mistake = _only(line)
    assert mistake.startswith("control.in:2  ")
    assert reason in mistake


@pytest.mark.parametrize(
    "line",
    [
        "relax_geometry none",
        "relax_unit_cell .false.",
        "MD_clean_rotations F",
        "compute_forces .false.",
        "compute_analytical_stress false",
    ],
)
def test_what_is_off_anyway_is_left_out_with_a_note(line):
    control, mistakes = Control.parse(f"xc pbe\n{line}")
    assert not mistakes
    assert _pairs(control) == [("xc", ("pbe",))]
    assert control.notes[0].startswith("line 2: ")


@pytest.mark.parametrize(
    "line",
    [
        "k_grid 2 2",
        "k_grid 2 2 0",
        "k_grid 2 2 2.5",
        "charge one",
        "charge",
        "spin polarized",
        "relativistic atomic_zora",
        "relativistic dirac",
        "sc_accuracy_rho small",
        "sc_iter_limit 1.5",
        "occupation_type gaussian",
        "occupation_type gauss 0.1",
        "final_forces_cleaned yes",
        "hse_unit nm",
        "override_illconditioning 1",
    ],
)
def test_wrong_values_are_refused_with_what_is_allowed(line):
    mistake = _only(line)
    assert mistake.startswith(f"control.in:2  {line.split()[0]}: found ")
    assert "; allowed: " in mistake


@pytest.mark.parametrize("line", ["xc", "xc 42", "xc hse06", "xc libxc", "xc b3-lyp"])
def test_a_wrong_functional_is_refused(line):
    assert [m.key for m in Control.parse(line)[1]] == ["xc"]


def test_a_functional_of_tomorrow_is_passed_on():
    assert _notes("xc tomorrows-gga")[0].startswith("line 1: unknown functional")


def test_a_file_without_a_functional_is_refused():
    assert [m.key for m in Control.parse("spin none")[1]] == ["xc"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("k_gird 2 2 2", "k_grid"),
        ("relativstic none", "relativistic"),
        ("sc_accuracy_roh 1e-5", "sc_accuracy_rho"),
        ("ks_metod serial", "KS_method"),
        ("specis H", "species"),
    ],
)
def test_a_misspelt_keyword_is_refused_with_the_right_one(written, meant):
    assert f"did you mean {meant}?" in _only(written)


def test_an_unknown_keyword_is_passed_on_with_a_note():
    control, mistakes = Control.parse("xc pbe\nfoo_bar 1 2")
    assert not mistakes
    assert control.notes == ("line 2: unknown keyword foo_bar is passed on to FHI-aims",)
    assert control.get("foo_bar") == ("1", "2")


@pytest.mark.parametrize(
    "line",
    ["spin = none", "spin=none", "12 13 14", '{"xc": "pbe"}', "This is my input", "! a comment"],
)
def test_a_line_that_is_no_keyword_is_refused(line):
    assert _only(line).startswith("control.in:2  found ")


def test_an_equals_sign_is_told_how_to_write_without():
    assert "'spin none', without =" in _only("spin = none")


def test_lines_of_geometry_are_sent_there():
    assert "geometry.in" in _only("lattice_vector 1. 0. 0.")


def test_a_whole_foreign_file_is_told_in_few_lines():
    assert len(Control.parse("<xml>\n" * 500)[1]) < 30


def test_two_values_of_one_keyword_are_refused_with_both_lines():
    mistake = _only("charge 1\nspin none\ncharge 2")
    assert mistake.startswith("control.in:4  charge: ")
    assert "in line 2" in mistake


def test_the_same_value_twice_is_noted_and_kept_once():
    control, mistakes = Control.parse("xc pbe\ncharge 1\ncharge 1.0D0")
    assert not mistakes
    assert control.notes[0].startswith("line 3: charge is there twice")
    assert len(control.keywords) == 2


def test_keywords_that_repeat_are_all_kept():
    assert [k.name for k in Control.parse(DISPERSION)[0].keywords].count("vdw_pair_ignore") == 2


@pytest.mark.parametrize(
    "other",
    [
        "spin none\nXC PBE\nsc_accuracy_rho 0.00001\nfinal_forces_cleaned T",
        "# new\n xc   pbe # here\nfinal_forces_cleaned true\nsc_accuracy_rho 1E-05\nSPIN none",
        "xc pbe\nspin none\nsc_accuracy_rho 1.e-5\nfinal_forces_cleaned .TRUE.\nKS_method serial",
    ],
)
def test_spelling_and_order_do_not_change_the_canonical_form(other):
    text = "xc pbe\nspin none\nsc_accuracy_rho 1d-5\nfinal_forces_cleaned .true."
    assert Control.parse(other)[0].canonical() == Control.parse(text)[0].canonical()


@pytest.mark.parametrize(
    "other", ["xc pbe\nk_grid 2 2 3", "xc pbe0\nk_grid 2 2 2", "xc pbe\nk_grid 2 2 2\ncharge 1"]
)
def test_another_answer_has_another_canonical_form(other):
    text = "xc pbe\nk_grid 2 2 2"
    assert Control.parse(other)[0].canonical() != Control.parse(text)[0].canonical()


def test_the_lines_of_an_output_stay_with_it_in_the_canonical_form():
    one = "xc pbe\noutput cube spin_density\ncube edge 3 1 0 0\noutput mulliken"
    other = "xc pbe\noutput mulliken\noutput cube spin_density\ncube edge 3 1 0 0"
    mixed = "xc pbe\noutput cube spin_density\noutput mulliken\ncube edge 3 1 0 0"
    forms = [Control.parse(text)[0].canonical() for text in (one, other, mixed)]
    assert forms[0] == forms[1] != forms[2]


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_canonical_form_is_json(text):
    form = Control.parse(text)[0].canonical()
    assert json.loads(json.dumps(form)) == form


def test_what_changes_no_answer_is_known_to_be_a_keyword():
    assert set(GENERAL) >= NO_ANSWER


def test_no_keyword_is_both_general_and_of_species():
    assert not SPECIES & set(GENERAL)


@pytest.mark.parametrize("content", [b"", b" \n\t\n", b"\x7fELF\x00\x01", b"xc pbe\x00\n"])
def test_a_file_without_text_is_one_mistake(tmp_path, content):
    path = tmp_path / "my.in"
    path.write_bytes(content)
    control, mistakes = Control.read(path)
    assert not control.keywords
    assert [m.file for m in mistakes] == ["my.in"]


def test_a_missing_file_and_a_folder_are_one_mistake_each(tmp_path):
    assert [len(Control.read(p)[1]) for p in (tmp_path, tmp_path / "none")] == [1, 1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_comments_may_be_in_any_usual_encoding(tmp_path, encoding):
    path = tmp_path / "control.in"
    path.write_bytes("# für Ångström\nxc pbe\n".encode(encoding))
    control, mistakes = Control.read(path)
    assert not mistakes
    assert control.get("xc") == ("pbe",)


_WORDS = st.from_regex(r"[A-Za-z0-9_.+=/*:-]{1,12}", fullmatch=True).filter(
    lambda w: not w.startswith(("=", "//"))
)
_NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(repr)
_REPEATED = ["output", "cube", "preconditioner", "vdw_pair_something", "constraint_electrons"]


@given(st.lists(st.tuples(st.sampled_from(_REPEATED), st.lists(_WORDS | _NUMBERS, max_size=5))))
def test_all_controls_survive_writing(lines):
    control = Control(tuple(Keyword(name, tuple(values), 0) for name, values in lines))
    assert _pairs(Control.parse(control.text())[0]) == _pairs(control)


@given(st.text())
def test_no_text_is_a_traceback(text):
    control, _ = Control.parse(text)
    again, _ = Control.parse(control.text())
    assert _pairs(again) == _pairs(control)
    json.dumps(control.canonical())


@given(st.sampled_from(EXAMPLES), st.randoms(use_true_random=False), st.integers(1, 12))
def test_no_damaged_file_is_a_traceback(text, rng: random.Random, changes):
    letters = list(text)
    for _ in range(changes):
        letters[rng.randrange(len(letters))] = rng.choice(["", "\n", " ", "=", "#", "é", "9", "x,"])
    control, mistakes = Control.parse("".join(letters))
    assert all(str(m) for m in mistakes)
    assert _pairs(Control.parse(control.text())[0]) == _pairs(control)


@given(st.binary())
def test_no_bytes_are_a_traceback(content):
    text = content.decode("latin-1")
    assert isinstance(Control.parse(text)[1], list)


def test_a_file_of_random_bytes_is_one_mistake(tmp_path: Path):
    path = tmp_path / "control.in"
    path.write_bytes(random.Random(7).randbytes(4096))
    assert len(Control.read(path)[1]) == 1


@pytest.mark.parametrize(
    ("line", "values", "rest"),
    [
        ("n_max_pulay 10 (default)", ("10",), "(default)"),
        ("sc_accuracy_rho 1E-5 electrons per volume", ("1E-5",), "electrons per volume"),
        ("k_grid 4 4 1 slab", ("4", "4", "1"), "slab"),
        ("relativistic none really", ("none",), "really"),
    ],
)
def test_words_behind_the_values_are_left_out_with_a_note(line, values, rest):
    control, wrong = Control.parse(f"xc pbe\n{line}\n")
    assert wrong == []
    assert control.keywords[1].values == values
    assert control.notes == (f"line 2: '{rest}' is left out; comments begin with #",)


@pytest.mark.parametrize("line", ["k_grid 4 4 4 4", "charge 0. 1.", "sc_iter_limit 100 200"])
def test_numbers_too_many_are_a_mistake(line):
    _, wrong = Control.parse(f"xc pbe\n{line}\n")
    assert len(wrong) == 1
