"""Outputs of FHI-aims, real ones (ASE's test data) and what became of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from aimspax_core.errors import EngineError, LabelError, LabelFailure
from aimspax_core.reference.aims.output import AimsFiles, AimsResult, read_result

REAL = Path(ase.__file__).parent / "test/testdata/aims"
SINGLE = (REAL / "singlepoint.out").read_text()
RELAX = (REAL / "relax.out").read_text()
CONVERGED = "Self-consistency cycle converged."
NICE = "Have a nice day."
# As FHI-aims 190813 ends a calculation of 20 H atoms that is given too few iterations.
NOT_CONVERGED = """
 ***********************************************************
 *
 * WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE
 * USING YOUR PRESELECTED ACCURACY CRITERIA.
 * DO NOT RELY ON ANY FINAL DATA WITHOUT FURTHER CHECKS.
 *
 ***********************************************************
"""
HEADER = """
          Invoking FHI-aims ...
  Parsing control.in (first pass over file, find array dimensions only).
  # *** Error: this is a comment in control.in
  xc pbe
"""


def outcome(output: str, launcher: str = "", exit_code: int | None = 0) -> AimsResult | Exception:
    try:
        return read_result(AimsFiles(output, launcher, exit_code))
    except (LabelError, EngineError) as error:
        return error


def failure(output: str, launcher: str = "", exit_code: int | None = 0) -> LabelError:
    error = outcome(output, launcher, exit_code)
    assert isinstance(error, LabelError), error
    assert "\n" not in str(error)
    return error


def same(a: AimsResult, b: AimsResult) -> bool:
    stresses = (a.stress is None and b.stress is None) or (
        a.stress is not None and b.stress is not None and np.array_equal(a.stress, b.stress)
    )
    return (
        a.atoms == b.atoms
        and (a.energy, a.free_energy) == (b.energy, b.free_energy)
        and np.array_equal(a.forces, b.forces)
        and stresses
    )


# Values


def test_a_real_single_point_is_read() -> None:
    result = read_result(AimsFiles(SINGLE))
    assert result.energy == -0.206302072675943e04
    assert result.free_energy == -0.206302072675943e04
    assert result.forces[2].tolist() == [
        -0.213810047509011e01,
        0.658952882441297e01,
        0.243389136984796e-27,
    ]
    water = Atoms("OHH", [(0, 0, 0), (0.9584, 0, 0), (-0.24, 0.9279, 0)])
    assert result.atoms == water
    assert result.stress is None


def test_the_last_structure_of_a_real_relaxation_is_read() -> None:
    result = read_result(AimsFiles(RELAX))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        atoms = ase.io.read(REAL / "relax.out", format="aims-output")
    assert isinstance(atoms, Atoms)
    assert result.free_energy == atoms.get_potential_energy()
    assert np.array_equal(result.forces, atoms.get_forces())
    assert result.stress is not None
    assert np.array_equal(result.stress, atoms.get_stress(voigt=False))
    assert np.array_equal(result.atoms.cell, atoms.cell)


@pytest.mark.parametrize("heading", ["Atomic structure", "Final atomic structure"])
def test_the_last_structure_of_a_real_trajectory_is_read(heading: str) -> None:
    # Older versions call the last one final.
    head, _, tail = (REAL / "md.out").read_text().rpartition("Atomic structure (and")
    result = read_result(AimsFiles(f"{head}{heading} (and{tail}"))
    assert result.atoms.positions.tolist() == [
        [-0.00044308, -0.00190646, 0.0],
        [0.98936333, -0.01341746, 0.0],
        [-0.26393022, 0.97157934, 0.0],
    ]
    assert result.energy == -0.206774765059873e04


def test_the_dipole_of_the_last_structure_is_read() -> None:
    result = read_result(AimsFiles((REAL / "md.out").read_text()))
    assert result.dipole is not None
    expected = [0.258425779687042, 0.338975725843162, 0.506568449291219e-16]
    assert result.dipole.tolist() == expected
    assert result.hirshfeld_ratios is None


def test_a_dipole_that_cannot_be_read_costs_no_label() -> None:
    printed = "  | Total dipole moment [eAng]          :       {} 0.1 0.2\n"
    head, _, end = SINGLE.rpartition(NICE)
    for number, read in (("0.3", [0.3, 0.1, 0.2]), ("******", None), ("NaN", None), ("", None)):
        dipole = read_result(AimsFiles(f"{head}{printed.format(number)}{NICE}{end}")).dipole
        assert (None if dipole is None else dipole.tolist()) == read


def test_a_hirshfeld_analysis_counts_if_it_is_of_all_atoms() -> None:
    atom = "|   Free atom volume        :  20.0\n|   Hirshfeld volume        :  1{}.0\n"
    title = "Performing Hirshfeld analysis of fragment charges and moments.\n"
    head, _, end = SINGLE.rpartition(NICE)
    for numbers, ratios in (("012", [0.5, 0.55, 0.6]), ("01", None), ("01*", None)):
        analysis = title + "".join(atom.format(number) for number in numbers)
        found = read_result(AimsFiles(f"{head}{analysis}{NICE}{end}")).hirshfeld_ratios
        assert (None if found is None else found.tolist()) == ratios


def test_a_numerical_stress_is_read_with_the_forces_after_it() -> None:
    real = (REAL / "numerical_stress.out").read_text()
    table = real[real.index("  Calculation of numerical stress completed") :]
    table = table[: table.index("          Begin self-consistency loop")]
    head, loop, tail = SINGLE.rpartition("          Begin self-consistency loop")
    result = read_result(AimsFiles(head + table + loop + tail))
    assert result.stress is not None
    assert result.stress[0].tolist() == [0.00244726, -0.00000007, -0.00000026]
    assert np.array_equal(result.forces, read_result(AimsFiles(SINGLE)).forces)


def test_the_energy_of_a_periodic_metal_is_the_corrected_one() -> None:
    metal = RELAX.replace(
        CONVERGED,
        "  this material is metallic within the approximate finite broadening function "
        f"(occupation_type)\n  {CONVERGED}",
    )
    last = metal.rindex("Total energy corrected")
    start = metal.index("-0.", last)
    metal = f"{metal[:start]}-0.157480000000000E+05{metal[start + 22 :]}"
    assert read_result(AimsFiles(metal)).energy == -15748.0
    assert read_result(AimsFiles(metal)).free_energy == read_result(AimsFiles(RELAX)).free_energy


def test_version_and_tasks_are_those_that_are_printed() -> None:
    head = "  FHI-aims version      : 221103\n  Using      256 parallel tasks.\n"
    result = read_result(AimsFiles(head + SINGLE))
    assert (result.version, result.tasks) == ("221103", 256)


def test_version_and_tasks_may_be_missing() -> None:
    result = read_result(AimsFiles(SINGLE))
    assert (result.version, result.tasks) == ("", None)


def test_warnings_are_kept_once_and_at_most_five() -> None:
    many = "".join(f"  ** Warning: number {i}\n" for i in (1, 1, 2, 3, 4, 5, 6))
    kept = read_result(AimsFiles(many + SINGLE)).warnings
    assert kept == tuple(f"Warning: number {i}" for i in (1, 2, 3, 4, 5))


def test_an_exponent_of_three_digits_is_read_although_fortran_drops_its_e() -> None:
    tiny = SINGLE.replace("0.243389136984796E-27", "0.243389136984796-127")
    assert read_result(AimsFiles(tiny)).forces[2, 2] == 0.243389136984796e-127


@pytest.mark.parametrize("exit_code", [1, -11, 139, None])
def test_a_complete_output_counts_whatever_the_exit_code(exit_code: int | None) -> None:
    result = read_result(
        AimsFiles(SINGLE, "srun: error: task 0: Exited with exit code 1", exit_code)
    )
    assert result.energy == -0.206302072675943e04


def test_what_follows_the_end_does_not_matter() -> None:
    noise = "srun: error: something\n" * 9
    assert same(read_result(AimsFiles(SINGLE + noise)), read_result(AimsFiles(SINGLE)))


def test_of_an_output_that_was_appended_to_the_last_calculation_counts() -> None:
    older = f"          Invoking FHI-aims ...\n{RELAX}"
    newer = f"          Invoking FHI-aims ...\n{SINGLE}"
    assert same(read_result(AimsFiles(older + newer)), read_result(AimsFiles(SINGLE)))


def test_a_good_older_calculation_does_not_hide_a_failed_one() -> None:
    assert failure(f"          Invoking FHI-aims ...\n{SINGLE}{HEADER}").transient


# SCF


@pytest.mark.parametrize("end", [NICE, "*** scf_solver: SCF cycle not converged."])
def test_a_calculation_that_did_not_converge_is_no_label(end: str) -> None:
    output = SINGLE.replace(CONVERGED, "").replace(NICE, f"{NOT_CONVERGED}{end}")
    error = failure(output)
    assert not error.transient
    assert "SCF did not converge" in str(error)


def test_the_scf_failure_counts_where_only_the_launcher_heard_of_it() -> None:
    assert not failure(HEADER, " *** scf_solver: SCF cycle not converged.\n").transient


def test_a_nice_day_alone_is_no_convergence() -> None:
    error = failure(SINGLE.replace(CONVERGED, ""))
    assert not error.transient
    assert error.kind is LabelFailure.SCF


def test_convergence_of_an_earlier_structure_is_none_of_the_last() -> None:
    head, _, tail = RELAX.rpartition(CONVERGED)
    assert "SCF did not converge" in str(failure(head + tail))


# Wrong input


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (" * Error: k-grid not specified!\n *** read_control: \n", "k-grid not specified"),
        (" *** parse_control: ! No species in control.in.\n", "No species in control.in"),
        (
            " Syntax error reading 'control.in' (missing arguments)\n line: 'k_grid 4 4'\n",
            "line: 'k_grid 4 4'",
        ),
        ("  Please set anacon_type.\n *** read_control: \n", "Please set anacon_type"),
        (" *** Proc    0 in read_geo: Error.\n *** Proc    1 in read_geo: Error.\n", "in read_geo"),
    ],
)
def test_wrong_input_is_told_in_the_words_of_fhi_aims(said: str, words: str) -> None:
    error = outcome(HEADER + said, "MPI_ABORT was invoked on rank 0\n", 0)
    assert isinstance(error, EngineError)
    assert words in str(error)
    assert "\n" not in str(error)


def test_wrong_input_is_told_where_only_stderr_has_it() -> None:
    error = outcome(HEADER, " *** parse_control: ! No species in control.in.\n", 1)
    assert isinstance(error, EngineError)


def test_an_output_without_forces_is_wrong_input() -> None:
    error = outcome((REAL / "issue_3345_spin_md_light.out").read_text())
    assert isinstance(error, EngineError)
    assert "compute_forces" in str(error)


@pytest.mark.parametrize("comment", ["*** Error: as above", "an unknown keyword, please correct"])
def test_a_comment_in_control_in_is_no_error(comment: str) -> None:
    assert failure(f"{HEADER}  # {comment}\n").transient


def test_a_stop_is_told_where_the_launcher_writes_into_the_output() -> None:
    stop = "  Please set anacon_type.\n *** read_control: \n"
    noise = "MPI_ABORT was invoked on rank 0\n" + "".join(f"NOTE: line {i}\n" for i in range(9))
    error = outcome(HEADER + stop + noise)
    assert isinstance(error, EngineError)
    assert "Please set anacon_type" in str(error)


@pytest.mark.parametrize(
    "marked",
    [
        # As outputs of good calculations have them.
        "  *** Environment variable OMP_NUM_THREADS is not set\n"
        "  *** For performance reasons you might want to set it to 1\n",
        "  *** Stacksize is not set to unlimited. This might cause problems...\n",
        "  *** WARNING: If you use this flag, you should really know what you are doing.\n"
        "  *** DO NOT keep this flag set by default in all your control.in files.\n",
        "  ** STARTING SECOND VARIATIONAL SOC CALCULATION **\n",
        "  ** This is a localized expansion of all basis function products.\n"
        + "".join(f"  Species {i}\n" for i in range(9)),
    ],
)
def test_what_good_outputs_mark_with_stars_is_not_why_a_killed_one_ended(marked: str) -> None:
    error = failure(HEADER + marked, "srun: error: nid001366: task 1: Killed\n", 137)
    assert error.transient
    assert "Killed" in str(error)


@pytest.mark.parametrize(
    "said",
    [
        " *** Ill-conditioned overlap matrix found.\n",
        " *** Proc    0 in check_for_close_encounters: atoms too close.\n",
    ],
)
def test_a_structure_that_fhi_aims_refuses_is_no_wrong_input(said: str) -> None:
    assert not failure(HEADER + said).transient


def test_a_stop_within_the_scf_is_no_wrong_input() -> None:
    said = "          Begin self-consistency loop: Initialization.\n *** Proc 3 in elsi: failed.\n"
    error = failure(HEADER + said)
    assert not error.transient
    assert "elsi: failed" in str(error)


# Machines


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=1.0.", "out of memory"),
        ("forrtl: severe (41): insufficient virtual memory", "out of memory"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out of memory"),
        ("slurmstepd: error: *** JOB 1 CANCELLED AT 2025-01-01 DUE TO TIME LIMIT ***", "time"),
        ("slurmstepd: error: *** STEP 1.0 CANCELLED DUE TO NODE FAILURE ***", "node"),
        ("srun: error: Node failure on nid001366", "node"),
        ("TERM_MEMLIMIT: job killed after reaching LSF memory usage limit.", "out of memory"),
        ("=>> PBS: job killed: mem 12345kb exceeded limit 1000kb", "out of memory"),
        ("=>> PBS: job killed: walltime 3610 exceeded limit 3600", "time"),
        ("There are not enough slots available in the system", "launcher"),
        ("write error: No space left on device", "disk"),
        ("forrtl: severe (174): SIGSEGV, segmentation fault occurred", "ulimit -s unlimited"),
        ("srun: error: nid001366: task 1: Killed", "launcher"),
        ("bash: aims.x: command not found", "launcher"),
    ],
)  # fmt: skip
def test_trouble_of_the_machine_is_transient_and_quoted(said: str, words: str) -> None:
    error = failure(SINGLE[:9000], f"module loaded\n{said}\n", 1)
    assert error.transient
    assert words in str(error)
    assert said.strip("* ") in str(error)


def test_memory_that_fhi_aims_itself_could_not_get_is_transient() -> None:
    said = (
        " *** Proc         0 in init:  Error in allocation of array rho.\n"
        " *** This error may mean that you ran out of memory.\n"
        " *** Proc    0 in init: Error in allocation of array rho.\n"
    )
    error = failure(HEADER + said)
    assert error.transient
    assert "out of memory" in str(error)


def test_a_run_that_was_stopped_after_its_time_is_transient() -> None:
    error = failure(SINGLE[:9000], "slurmstepd: error: *** STEP 1.0 CANCELLED ***", None)
    assert error.transient
    assert "time" in str(error)


def test_an_empty_output_is_transient_and_told_with_the_exit_code() -> None:
    error = failure("", "", 7)
    assert error.transient
    assert "empty" in str(error)
    assert "exit code 7" in str(error)


@pytest.mark.parametrize("bad", ["NaN", "*********************", "0.65895288244"])
def test_a_force_that_is_no_number_is_transient_and_quoted(bad: str) -> None:
    error = failure(SINGLE.replace("0.658952882441297E+01", bad))
    assert error.transient
    assert "atom 3" in str(error)


def test_an_energy_that_is_no_number_is_transient() -> None:
    assert failure(SINGLE.replace("-0.206302072675943E+04", "                  NaN")).transient


# Whatever comes


@pytest.mark.parametrize(
    ("text", "step"),
    [
        pytest.param(SINGLE, 1000, id="single"),
        pytest.param(SINGLE, 50, id="single, finely", marks=pytest.mark.slow),
        pytest.param(RELAX, 500, id="relaxation", marks=pytest.mark.slow),
    ],
)
def test_a_prefix_gives_the_same_result_or_none(text: str, step: int) -> None:
    full = read_result(AimsFiles(text))
    for end in [*range(0, len(text), step), *range(len(text) - 100, len(text), 3)]:
        found = outcome(text[:end])
        if isinstance(found, AimsResult):
            assert same(found, full)
        else:
            assert isinstance(found, LabelError)
            assert found.transient


def test_a_hole_in_the_forces_is_noticed() -> None:
    start = SINGLE.rindex("|    1 ")
    stop = SINGLE.rindex("E-27")
    for begin in range(start, stop, 13):
        for length in (1, 3, 19, 31, 94, 104):
            assert failure(SINGLE[:begin] + SINGLE[min(begin + length, stop + 1) :]).transient


@given(st.binary(max_size=400), st.binary(max_size=100), st.sampled_from([None, 0, 1, -9]))
def test_random_bytes_do_not_crash_it(output: bytes, launcher: bytes, code: int | None) -> None:
    texts = [data.decode(errors="replace") for data in (output, launcher)]
    assert isinstance(outcome(*texts, code), (LabelError, EngineError))


@given(st.integers(0, len(SINGLE)), st.integers(0, 200), st.text(max_size=20))
def test_a_damaged_output_does_not_crash_it(start: int, length: int, text: str) -> None:
    damaged = SINGLE[:start] + text + SINGLE[start + length :]
    assert isinstance(outcome(damaged), (AimsResult, LabelError, EngineError))
