#!/usr/bin/env python3
"""A stand-in for FHI-aims: reads its input, prints its output, computes with GFN2-xTB or EMT.

Environment: `AIMS_STAND_IN_METHOD` (gfn2, emt), `AIMS_STAND_IN` (ways to fail, see `FAILURES`,
separated by commas and taken in turn), `AIMS_STAND_IN_EVERY` (fail at every n-th start only),
`AIMS_STAND_IN_COUNTER` (file that counts the starts), `AIMS_STAND_IN_SLEEP` (seconds each).
"""

from __future__ import annotations

import fcntl
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

HARTREE = 27.2113845
LINE = "-" * 60
VERBATIM = "  " + "-" * 71


def words(line: str) -> list[str]:
    return line.partition("#")[0].split()


TOP_LEVEL = words(
    """xc spin charge relativistic k_grid k_grid_density k_offset occupation_type mixer n_max_pulay
    charge_mix_param spin_mix_param sc_accuracy_rho sc_accuracy_eev sc_accuracy_etot
    sc_accuracy_forces sc_accuracy_stress sc_iter_limit sc_init_iter compute_forces
    compute_analytical_stress final_forces_cleaned output output_level fixed_spin_moment
    default_initial_moment many_body_dispersion many_body_dispersion_nl vdw_correction_hirshfeld
    ks_method KS_method density_update_method adjust_scf override_illconditioning
    basis_threshold empty_states preconditioner hybrid_xc_coeff hse_unit walltime
    collect_eigenvectors use_dipole_correction symmetry_reduced_k_grid RI_method
    verbatim_writeout include_spin_orbit load_balancing use_local_index"""
)
FLAGS = ("many_body_dispersion", "many_body_dispersion_nl", "vdw_correction_hirshfeld")
SPECIES = words(
    """nucleus mass l_hartree cut_pot basis_dep_cutoff radial_base radial_multiplier angular_grids
    division outer_grid valence ion_occ hydro ionic confined for_aux include_min_basis
    pure_gauss basis_acc logarithmic hirshfeld_param plus_u"""
)
GEOMETRY = words(
    """atom atom_frac lattice_vector initial_moment initial_charge constrain_relaxation velocity
    hessian_file trust_radius homogeneous_field multipole set_vacuum_level verbatim_writeout"""
)


class RefusedError(Exception):
    """FHI-aims stops: what it says, and the routine that says it."""

    def __init__(self, routine: str, *lines: str) -> None:
        super().__init__(*lines)
        self.routine, self.lines = routine, lines


@dataclass(frozen=True)
class Task:
    """What the two input files ask for."""

    atoms: Atoms
    control: dict[str, str]
    moments: tuple[float, ...]
    control_text: str
    geometry_text: str

    def prints(self, what: str) -> bool:
        """Whether control.in has a line `output WHAT`."""
        return any(words(line) == ["output", what] for line in self.control_text.splitlines())

    def asks(self, key: str) -> bool:
        return self.control.get(key, "").lower() == ".true."

    @property
    def spin_channels(self) -> int:
        return 2 if self.control.get("spin") == "collinear" else 1


@dataclass(frozen=True)
class Answer:
    """Energy (eV), forces (eV/Å), stress (eV/Å³), dipole (e·Å)."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    dipole: np.ndarray | None = None


# Input


def read_control(text: str) -> tuple[dict[str, str], set[str]]:
    control: dict[str, str] = {}
    species: set[str] = set()
    for line in filter(words, text.splitlines()):
        key, *values = words(line)
        if key == "species" and values:
            species.add(values[0])
        elif key in TOP_LEVEL:
            if not values and key not in FLAGS:
                raise RefusedError(
                    "read_control",
                    "Syntax error reading 'control.in' (missing arguments)",
                    f"line: '{line}'",
                )
            control[key] = " ".join(values)
        elif not (species and key in SPECIES):
            raise RefusedError(
                "read_control",
                f"* Error: Unknown keyword '{key}'.",
                "* Please correct file control.in .",
            )
    if not species:
        raise RefusedError("parse_control", "! No species in control.in.")
    if "xc" not in control:
        raise RefusedError("read_control", "* Error: No exchange-correlation functional (xc).")
    return control, species


def read_geometry(text: str) -> tuple[Atoms, tuple[float, ...]]:
    cell, symbols, places, moments = [], [], [], {}
    for line in filter(words, text.splitlines()):
        key, *values = words(line)
        try:
            if key == "lattice_vector":
                cell.append([float(v) for v in values[:3]])
            elif key in ("atom", "atom_frac"):
                places.append((key, [float(v) for v in values[:3]]))
                symbols.append(values[3])
            elif key == "initial_moment":
                moments[len(symbols) - 1] = float(values[0])
            elif key not in GEOMETRY:
                raise RefusedError("read_geo", f"* Error: Unknown keyword '{key}' in geometry.in.")
        except (ValueError, IndexError):
            raise RefusedError(
                "read_geo", "Syntax error reading 'geometry.in'", f"line: '{line}'"
            ) from None
    if not symbols:
        raise RefusedError("parse_geometry", "! No atoms in geometry.in.")
    if len(cell) not in (0, 3):
        raise RefusedError("read_geo", f"* Error: {len(cell)} lattice vectors in geometry.in.")
    positions = [p if key == "atom" else np.dot(p, cell) for key, p in places]
    atoms = Atoms(symbols, positions, cell=cell or None, pbc=bool(cell))
    return atoms, tuple(moments.get(i, math.nan) for i in range(len(symbols)))


def read_task(folder: Path) -> Task:
    texts = []
    for name in ("control.in", "geometry.in"):
        if not (folder / name).is_file():
            raise RefusedError("parse_control", f"* Error: Input file {name} not found.")
        texts.append((folder / name).read_text())
    control, species = read_control(texts[0])
    atoms, moments = read_geometry(texts[1])
    for symbol in dict.fromkeys(atoms.get_chemical_symbols()):
        if symbol not in species:
            raise RefusedError(
                "read_geo", f"* Error: Species {symbol} of geometry.in is not in control.in."
            )
    has_grid = "k_grid" in control or "k_grid_density" in control
    if atoms.pbc.any() and not has_grid:
        raise RefusedError("read_control", "* Error: k-grid not specified!")
    if has_grid and not atoms.pbc.any():
        raise RefusedError("read_control", "* Error: k_grid given, but no lattice vectors.")
    return Task(atoms, control, moments, *texts)


# Physics


def unpaired(task: Task) -> int:
    """Return the number of unpaired electrons that the input asks for, of the right parity."""
    electrons = round(task.atoms.numbers.sum() - float(task.control.get("charge", 0)))
    wish = 0.0
    if task.spin_channels == 2 and "fixed_spin_moment" in task.control:
        wish = float(task.control["fixed_spin_moment"])
    elif task.spin_channels == 2:
        default = task.control.get("default_initial_moment", "0")
        each = 0.0 if default == "hund" else float(default)
        wish = sum(each if math.isnan(m) else m for m in task.moments)
    number = abs(round(wish))
    return number if (number - electrons) % 2 == 0 else number + 1


def compute(task: Task) -> Answer | None:
    atoms = task.atoms.copy()
    if os.environ.get("AIMS_STAND_IN_METHOD", "gfn2") == "emt":
        from ase.calculators.emt import EMT

        atoms.calc = EMT()
    else:
        from tblite.ase import TBLite

        charge = float(task.control.get("charge", 0))
        atoms.calc = TBLite(
            method="GFN2-xTB",
            charge=charge,
            multiplicity=unpaired(task) + 1,
            accuracy=0.01,
            verbosity=0,
        )
    from ase.calculators.calculator import CalculationFailed

    try:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    except CalculationFailed:
        return None
    stressed = task.asks("compute_analytical_stress") and atoms.pbc.all()
    moment = None
    if task.prints("dipole") and not atoms.pbc.any():
        moment = atoms.get_dipole_moment()
    return Answer(energy, forces, atoms.get_stress(voigt=False) if stressed else None, moment)


# Output


def fortran(value: float) -> str:
    """Return a number as Fortran's E31.15 has it."""
    if not math.isfinite(value):
        return "NaN".rjust(31)
    mantissa, exponent = f"{abs(value):.14e}".split("e")
    power = 0 if value == 0 else int(exponent) + 1
    sign = "-" if value < 0 else ""
    return f"{sign}0.{mantissa.replace('.', '')}E{power:+03d}".rjust(31)


def preamble() -> str:
    return f"""{LINE}
          Invoking FHI-aims ...

          (This is a stand-in for tests; the real program is at https://fhi-aims.org .)

{LINE}



{clock(2)}
  Time zero on CPU 1             :   0.100000000000000E-01  s.
  Internal wall clock time zero  :           500000000.000  s.

  FHI-aims created a unique identifier for this run for later identification
  aims_uuid : 00000000-0000-0000-0000-000000000000

  Build configuration of the current instance of FHI-aims
  -------------------------------------------------------
  FHI-aims version      : 250320_standin
  Commit number         : 000000000
  Using MPI
  Using ScaLAPACK
  Linking against:

  Using        1 parallel tasks.
  Task        0 on host localhost reporting.

  Obtaining array dimensions for all initial allocations:

"""


def clock(indent: int) -> str:
    return " " * indent + time.strftime("Date     :  %Y%m%d, Time     :  %H%M%S.000")


def repeated(name: str, text: str) -> str:
    lines = "".join(f"  {line}\n" for line in text.splitlines())
    return f"""{VERBATIM}
  Parsing {name} (first pass over file, find array dimensions only).
  The contents of {name} will be repeated verbatim below
  unless switched off by setting 'verbatim_writeout .false.' .
  in the first line of {name} .
{VERBATIM}

{lines}
{VERBATIM}
  Completed first pass over input file {name} .
{VERBATIM}

"""


def section(title: str) -> str:
    return f"{LINE}\n          {title}\n{LINE}\n"


def structure(atoms: Atoms) -> str:
    rows = []
    if atoms.pbc.any():
        rows.append("  | Unit cell:")
        rows += ["  | " + "".join(f"{x:18.8f}" for x in v)[1:] for v in atoms.cell.array]
    else:
        rows.append("  | No unit cell requested.")
    rows.append("  | Atomic structure:")
    rows.append("  |       Atom                x [A]            y [A]            z [A]")
    for i, (symbol, xyz) in enumerate(zip(atoms.symbols, atoms.positions, strict=True), start=1):
        rows.append(f"  |{i:5d}: Species {symbol:<4}" + "".join(f"{x:17.8f}" for x in xyz))
    return "\n".join(rows) + "\n"


def setup(task: Task) -> str:
    atoms = task.atoms
    electrons = atoms.numbers.sum() - float(task.control.get("charge", 0))
    k_points = math.prod(int(n) for n in task.control.get("k_grid", "1").split())
    periodic = f"  | Number of k-points                             : {k_points:9d}\n"
    level = task.control.get("output_level", "normal")
    return f"""
  Basic array size parameters:
  | Number of species                 : {len(set(atoms.symbols)):8d}
  | Number of atoms                   : {len(atoms):8d}
  | Number of spin channels           : {task.spin_channels:8d}

{section("Reading file control.in.")}  XC: Using {task.control["xc"]} (the stand-in does not).
  Requested output level: {level}

  Finished reading input file 'control.in'.

{section("Reading geometry description geometry.in.")}  Input structure read successfully.
  The structure contains {len(atoms):8d} atoms,  and a total of {electrons:15.3f} electrons.

  Input geometry:
{structure(atoms)}

  Finished reading input file 'control.in'.


{section("Reading geometry description geometry.in.")}
  Consistency checks for the contents of control.in are next.

  Geometry relaxation not requested: no relaxation will be performed.
  No occupation type (smearing scheme) given. Defaulting to Gaussian broadening, width =\
  0.1000E-01 eV.

  Consistency checks for the contents of geometry.in are next.

  | Number of Kohn-Sham states (occupied + empty): {len(atoms) * 8:8d}
{LINE}

{section("Preparing all fixed parts of the calculation.")}{periodic if atoms.pbc.any() else ""}
  Preparations completed.
{LINE}

{LINE}
          Begin self-consistency loop: Initialization.

{clock(10)}
{LINE}

"""


def components(energy: float) -> str:
    both = f"{energy / HARTREE:20.8f} Ha{energy:20.8f} eV"
    caution = "  <-- do not rely on this value for anything but (periodic) metals"
    return f"""
  Total energy components:
  | ---------------------------
  | Total energy                  :{both}
  | Total energy, T -> 0          :{both}{caution}
  | Electronic free energy        :{both}

"""


def scf(task: Task, energy: float) -> str:
    """Return one iteration, in the layout of the level of output that is asked for."""
    if task.control.get("output_level") == "MD_light":
        density = "|  density,  spin     |" if task.spin_channels == 2 else "|  density  |"
        change = "0.10E-08  0.10E-08" if task.spin_channels == 2 else "0.10E-08"
        return (
            f"{LINE}\nConvergence:    q app. {density} eigen (eV) | Etot (eV) | forces (eV/A) |"
            f"       CPU time |     Clock time\n  SCF    1 : -0.10E-13 |  {change} |   0.10E-06 |"
            f"  0.10E-09 |             . |        0.010 s |        0.010 s\n{components(energy)}"
        )
    return f"""{LINE}
          Begin self-consistency iteration #    1

{clock(2)}
{LINE}
{components(energy)}
  Self-consistency convergence accuracy:
  | Change of charge density      :  0.1000E-08
  | Change of sum of eigenvalues  :  0.1000E-06 eV
  | Change of total energy        :  0.1000E-09 eV

  End self-consistency iteration #     1       :  max(cpu_time)    wall_clock(cpu1)
  | Time for this iteration                    :        0.010 s           0.010 s

{LINE}
"""


CONVERGED = "\n  Self-consistency cycle converged.\n\n"
NOT_CONVERGED = f"""{LINE}

 {"*" * 59}
 *
 * WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE
 * USING YOUR PRESELECTED ACCURACY CRITERIA.
 * DO NOT RELY ON ANY FINAL DATA WITHOUT FURTHER CHECKS.
 *
 {"*" * 59}

"""


def stress_block(stress: np.ndarray) -> str:
    edge, blank = "  +" + "-" * 67 + "+", "  |" + " " * 67 + "|"
    rows = [
        f"  |  {name}  " + "".join(f"{x:17.8f}" for x in row) + " " * 11 + "|"
        for name, row in zip("xyz", stress, strict=True)
    ]
    head = [edge, f"  |{'Analytical stress tensor - Symmetrized':^67}|"]
    head += [f"  |{'Cartesian components [eV/A**3]':^67}|", edge]
    head += [f"  |{'x':>17}{'y':>17}{'z':>17}{'|':>17}", blank]
    pressure = f"  |  Pressure:{-np.trace(stress) / 3:17.8f}   [eV/A**3]".ljust(70) + "|"
    return "\n".join([*head, *rows, blank, pressure, blank, edge]) + "\n"


def dipole_block(task: Task, dipole: np.ndarray) -> str:
    charge = float(task.control.get("charge", 0))
    caution = f""" * Warning: The system has a total charge of {charge:15.8f} .
 * The dipole moment depends on the choice of the origin.
"""
    return f"""
  Computing monopole / dipole moments
{caution if charge else ""}  | Total dipole moment [eAng]          : {"".join(map(fortran, dipole))}
  | Absolute dipole moment              : {fortran(float(np.linalg.norm(dipole)))} eAng  /  ...
"""


def hirshfeld_block(atoms: Atoms) -> str:
    """Return an analysis by which an atom is the smaller, the more others are near."""
    rule = f"  {'-' * 70}\n"
    parts = [f"\n  {HIRSHFELD}\n", rule]
    for i, (symbol, number) in enumerate(zip(atoms.symbols, atoms.numbers, strict=True), start=1):
        others = np.delete(atoms.get_distances(i - 1, range(len(atoms)), mic=True), i - 1)
        free = 10.0 + number
        parts.append(f"""  | Atom {i:5d}: {symbol}
  |   Hirshfeld charge        : {0.0:15.8f}
  |   Free atom volume        : {free:15.8f}
  |   Hirshfeld volume        : {free / (1 + 0.2 * np.exp(-others).sum()):15.8f}
  |   Hirshfeld dipole moment : {0.0:15.8f}
{rule}""")
    return "".join(parts)


HIRSHFELD = "Performing Hirshfeld analysis of fragment charges and moments."


def results(task: Task, answer: Answer) -> str:
    parts = [] if answer.stress is None else [stress_block(answer.stress)]
    if answer.dipole is not None:
        parts.append(dipole_block(task, answer.dipole))
    if task.prints("hirshfeld"):
        parts.append(hirshfeld_block(task.atoms))
    energy = fortran(answer.energy)
    caution = "  <-- do not rely on this value for anything but (periodic) metals"
    parts.append(f"""
  Energy and forces in a compact form:
  | Total energy uncorrected      :{energy} eV
  | Total energy corrected        :{energy} eV{caution}
  | Electronic free energy        :{energy} eV
""")
    if task.asks("compute_forces"):
        parts.append("  Total atomic forces (unitary forces cleaned) [eV/Ang]:\n")
        for i, force in enumerate(answer.forces, start=1):
            parts.append(f"  |{i:5d}" + "".join(map(fortran, force)) + "\n")
    return "".join(parts)


def ending(answer: Answer) -> str:
    return f"""

{"-" * 78}
  Final output of selected total energy values:

  | Total energy of the DFT / Hartree-Fock s.c.f. calculation      : {answer.energy:24.9f} eV
  | Final zero-broadening corrected energy (caution - metals only) : {answer.energy:24.9f} eV

{LINE}
          Leaving FHI-aims.
{clock(10)}

          Computational steps:
          | Number of self-consistency cycles          :            1
          | Number of SCF (re)initializations          :            1

          Detailed time accounting                     :  max(cpu_time)    wall_clock(cpu1)
          | Total time                                 :        0.100 s           0.100 s

          Partial memory accounting:
          | Peak values for overall tracked memory usage:
          |   Minimum:        1.000 MB (on task 0 after allocating nothing)
          |   Maximum:        1.000 MB (on task 0 after allocating nothing)
          |   Average:        1.000 MB

          Have a nice day.
{LINE}
"""


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def stop(error: RefusedError) -> int:
    """Stop as FHI-aims does: on both channels, with exit code 0."""
    *before, last = error.lines
    if last.startswith(("*", "Syntax", "line")):
        before, last = [*before, last], ""
    say("".join(f" {line}\n" for line in before))
    said = f" *** {error.routine}: {last}"
    say(said + "\n")
    sys.stderr.write(said + "\n")
    return 0


# Failing


def turn() -> str:
    """Count this start, and return the way in which it should fail; empty for none."""
    modes = [m for m in os.environ.get("AIMS_STAND_IN", "").split(",") if m]
    every = int(os.environ.get("AIMS_STAND_IN_EVERY", "1"))
    counter = os.environ.get("AIMS_STAND_IN_COUNTER")
    number = every if counter is None else count(Path(counter))
    if not modes or number % every:
        return ""
    return modes[(number // every - 1) % len(modes)]


def count(path: Path) -> int:
    """Count up in a file; written over, so that who is killed on the way leaves a number there."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:  # noqa: PTH123
        fcntl.flock(file, fcntl.LOCK_EX)
        number = int(file.read() or 0) + 1
        file.seek(0)
        file.write(str(number).encode())
        return number


def partly(text: str) -> str:
    return text[: len(text) // 2]


def die(text: str) -> int:
    say(partly(text))
    return 1


def segfault(text: str) -> int:
    say(partly(text))
    return kill(signal.SIGSEGV)


def kill(number: signal.Signals) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), number)
    return 1


def hang(text: str) -> int:
    say(partly(text))
    nap = "import time; time.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", nap]):
        time.sleep(3600)
    return 1


def out_of_memory(text: str) -> int:
    say(partly(text))
    sys.stderr.write(
        "slurmstepd: error: Detected 1 oom_kill event in StepId=4711.0. "
        "Some of the step tasks have been OOM Killed.\n"
    )
    sys.stderr.flush()
    return kill(signal.SIGKILL)


def disk_full(text: str) -> int:
    say(partly(text))
    sys.stderr.write(
        "forrtl: No space left on device\n"
        "forrtl: severe (38): error during write, unit 6, file aims.out\n"
    )
    return 38


def node_failure(text: str) -> int:
    say(partly(text))
    sys.stderr.write(
        "srun: error: Node failure on nid001366\n"
        "slurmstepd: error: *** STEP 4711.0 ON nid001312 CANCELLED AT 2025-01-01T00:00:00 "
        "DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***\n"
    )
    return 1


def truncate(text: str) -> int:
    """End in the middle of a number in the middle of the forces."""
    rows = text.rpartition("[eV/Ang]:\n")[2].split("\n\n")[0]
    say(text[: text.rindex(rows) + len(rows) // 2 - 8])
    return 0


def empty(_: str) -> int:
    return 0


FAILURES: dict[str, Callable[[str], int]] = {
    "die": die,
    "segfault": segfault,
    "hang": hang,
    "oom": out_of_memory,
    "truncate": truncate,
    "empty": empty,
    "disk-full": disk_full,
    "node-fail": node_failure,
}
"""Ways to go wrong while a good output is being written; `respond` has those of FHI-aims itself."""


def altered(mode: str, task: Task, answer: Answer) -> tuple[Task, Answer]:
    """Return the result as a program that is wrong would give it."""
    forces = answer.forces
    if mode == "nan":
        return task, replace(answer, forces=np.full_like(forces, np.nan))
    if mode == "explode":
        return task, replace(answer, forces=1000 * forces)
    if mode == "reorder":
        return replace(task, atoms=task.atoms[::-1]), replace(answer, forces=forces[::-1])
    return task, answer


def respond(mode: str) -> int:
    try:
        if mode == "wrong-input":
            raise RefusedError("read_control", "* Error: k-grid not specified!")
        task = read_task(Path())
    except RefusedError as error:
        say(preamble())
        return stop(error)
    answer = compute(task)
    unconverged = answer is None or mode in ("no-scf", "no-scf-nice")
    task, answer = altered(mode, task, answer or Answer(-1.0, np.zeros((len(task.atoms), 3)), None))
    files = repeated("control.in", task.control_text) + repeated("geometry.in", task.geometry_text)
    begin = preamble() + files + setup(task) + scf(task, answer.energy)
    if unconverged:
        say(begin + results(task, answer) + NOT_CONVERGED)
        if mode != "no-scf-nice":
            return stop(RefusedError("scf_solver", "SCF cycle not converged."))
        say(ending(answer))
        return 0
    text = begin + CONVERGED + results(task, answer) + ending(answer)
    if mode in FAILURES:
        return FAILURES[mode](text)
    say(text)
    return 0


def main() -> int:
    mode = turn()
    time.sleep(float(os.environ.get("AIMS_STAND_IN_SLEEP", "0")))
    if mode.startswith("slow:"):
        time.sleep(float(mode.removeprefix("slow:")))
    return respond(mode)


if __name__ == "__main__":
    sys.exit(main())
