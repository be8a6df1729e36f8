"""The output of FHI-aims and of its launcher: a result, or the reason why there is none.

Values are read by ASE, whether they count is decided here. Exit codes are no help: FHI-aims ends
with 0 after most of its own errors, and a launcher may end with another code after a good result.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.io.aims import get_aims_out_chunks, get_header_chunk
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from aimspax_core.errors import AimspaxError, EngineError, LabelError, LabelFailure

_BEGIN = "Invoking FHI-aims"
_LOOP = "Begin self-consistency loop"
_CONVERGED = "Self-consistency cycle converged."
_END = "Have a nice day."
_FORCES = "Total atomic forces"
_DIPOLE = "| Total dipole moment [eAng]"
_HIRSHFELD = "Performing Hirshfeld analysis of fragment charges and moments."

_OF_ASE_TOO = re.compile(f"{re.escape(_DIPOLE)}|{re.escape(_HIRSHFELD)}")

# ASE does not know the first, and would take the first structure for the last.
_MD_END = "Final atomic structure (and velocities) as used"
_MD_STEP = "Atomic structure (and velocities) as used"

_TAIL = 400
"""Lines at the end of an unfinished output among which its cause is looked for."""

_UNCONVERGED = re.compile(
    r"SELF-CONSISTENCY CYCLE DID NOT CONVERGE|SCF cycle not converged", re.IGNORECASE
)

# What the machine did, beyond doubt: it counts before anything that FHI-aims says.
_MACHINE = (
    (
        "out of memory",
        r"oom[-_ ]kill|out[- ]of[- ]memory|cannot allocate memory|insufficient virtual memory"
        r"|bad_alloc|error in allocation of array|error allocating|exceeded .*memory limit"
        r"|term_memlimit|mem \S+ exceeded limit",
    ),
    (
        "the disk is full or failing",
        r"no space left on device|quota exceeded|input/output error|stale (?:nfs )?file handle"
        r"|read-only file system",
    ),
    (
        "the batch job ran out of time",
        r"due to time limit|term_runlimit|walltime \S+ exceeded limit",
    ),
    (
        "a node or the batch system failed",
        r"node[ _]fail|due to preemption|lost communication|lost connection"
        r"|communication connection failure|socket timed out|unable to contact slurm",
    ),
)

# What also happens after FHI-aims stopped by itself: it counts only if FHI-aims says nothing.
_LAUNCHER = (
    (
        "FHI-aims crashed; a stack that is too small does this (ulimit -s unlimited)",
        r"sigsegv|segmentation fault|signal 11\b|severe \(174\)",
    ),
    (
        "the launcher reports trouble",
        r"\bkilled\b|sigkill|\bsignal\b|bad termination|mpi_abort|cancelled|not enough slots"
        r"|licen[cs]e (?:file|server|expired)|command not found|no such file|not found"
        r"|shared libraries|permission denied|srun: error|slurmstepd: error|mpirun|mpiexec"
        r"|prterun|forrtl: ",
    ),
)

_COMPLAINT = re.compile(
    r"\*{1,3} *error\b|(?!#).*(?:syntax error|error reading|unknown keyword"
    r"|please correct|call to aims_stop|fortran runtime error)",
    re.IGNORECASE,
)
# Good outputs have starred lines too: a stop is at the end, in no box, and neither part of a
# warning nor about the shell.
_STARRED = re.compile(r"\*{2,3} +(?!\*)\S.*(?<!\*)")
_HARMLESS = re.compile(r"warning|environment variable|performance reasons|stacksize", re.IGNORECASE)
_NOISE = re.compile(r"mpi_abort|mpirun|mpiexec|prterun|srun: |slurmstepd: ", re.IGNORECASE)
_AT_THE_END = 4

_STRUCTURES_FAULT = re.compile(
    r"ill-conditioned|close encounter|too close|closer than|too many neighbors|trusted_descent",
    re.IGNORECASE,
)
_MACHINES_FAULT = re.compile(r"cpu_consistency", re.IGNORECASE)

_VERSION = re.compile(r"^ *(?:FHI-aims version *:|Version) *(\S+)", re.MULTILINE)
_TASKS = re.compile(r"Using +(\d+) +parallel tasks")
_WARNING = re.compile(r"^[ *]*\*+ *(.*\bwarning\b.*)", re.IGNORECASE | re.MULTILINE)
_MAX_WARNINGS = 5

# Fortran leaves out the E where the exponent has three digits.
_FORCE_ROW = re.compile(r" *\| *(\d+)(?: +[-+]?\d*\.\d+(?:E[-+]\d\d|[-+]\d{3})){3}")
_LONG_EXPONENT = re.compile(r"(\d\.\d{6,})([-+]\d{3})\b")


@dataclass(frozen=True)
class AimsFiles:
    """What one run of the launch line left behind.

    Attributes:
        output: FHI-aims's own output; if the file was written to before, the last calculation
            counts.
        launcher: The end of the output of the launcher and the batch system.
        exit_code: Of the launch line; None if it was stopped because its time was over.
    """

    output: str
    launcher: str = ""
    exit_code: int | None = 0


@dataclass(frozen=True)
class AimsResult:
    """A converged calculation.

    Attributes:
        atoms: N atoms as FHI-aims understood them, in its order: numbers, positions, cell, pbc.
        energy: Total energy (eV): corrected to zero broadening for periodic metals, else as it is.
        free_energy: Electronic free energy (eV); its derivatives are the forces.
        forces: (N, 3), eV/Å.
        stress: (3, 3), eV/Å³, or None if it was not computed.
        version: Of FHI-aims as printed; empty if it was not.
        tasks: Number of MPI tasks, if printed.
        warnings: At most five distinct lines in which FHI-aims warns of something.
        dipole: (3,), e·Å, about the origin; of a molecule, if it was printed and can be read.
        hirshfeld_ratios: (N,), if Hirshfeld volumes were printed and can be read.
    """

    atoms: Atoms
    energy: float
    free_energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    version: str
    tasks: int | None
    warnings: tuple[str, ...]
    dipole: NDArray[np.float64] | None = None
    hirshfeld_ratios: NDArray[np.float64] | None = None


def read_result(files: AimsFiles) -> AimsResult:
    """Return the result of a calculation, if it has one.

    Raises:
        LabelError: Not transient if the SCF did not converge or the structure itself is at fault,
            transient if the machine, the launcher or the clock is, or if the output is cut off.
        EngineError: FHI-aims refuses `control.in` or `geometry.in`, or computed no forces.
    """
    text = files.output[max(files.output.rfind(_BEGIN), 0) :]
    unconverged = _last_line((text, files.launcher), _UNCONVERGED)
    if unconverged is not None:
        raise LabelError(
            f"SCF did not converge: FHI-aims says '{unconverged}'", kind=LabelFailure.SCF
        )
    calculation, end, _ = text.rpartition(_END)
    if not end:
        raise _failure(text, files)
    if _CONVERGED not in calculation.rpartition(_LOOP)[2]:
        raise LabelError(
            f"SCF did not converge: FHI-aims ended without '{_CONVERGED}'", kind=LabelFailure.SCF
        )
    if _FORCES not in calculation:
        raise EngineError("FHI-aims computed no forces: control.in needs compute_forces .true.")
    try:
        return _values(calculation)
    # ASE's reader raises whatever its parsing trips over; any of it means: not readable.
    except Exception as error:
        raise LabelError(
            f"the output of FHI-aims cannot be read: {_clean(str(error))}", True
        ) from error


def _values(text: str) -> AimsResult:
    """Read the values of the last structure."""
    text = text.replace(_MD_END, _MD_STEP)
    hidden = _OF_ASE_TOO.sub("", text)  # it trips over those that cannot be read
    lines = iter(_LONG_EXPONENT.sub(r"\1E\2", hidden).splitlines())
    header = get_header_chunk(lines)
    chunks = list(get_aims_out_chunks(lines, header))
    # ASE cuts a relaxation so that what follows its last structure is a chunk too.
    chunk = chunks[-2] if header.is_relaxation else chunks[-1]
    _check_force_rows(text, header.n_atoms)
    atoms = chunk.atoms
    stress = chunk.stress
    version, tasks = _VERSION.search(text), _TASKS.search(text)
    result = AimsResult(
        atoms=Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
        energy=float(chunk.total_energy),
        free_energy=float(chunk.free_energy),
        forces=np.asarray(chunk.forces, dtype=float),
        stress=None if stress is None else voigt_6_to_full_3x3_stress(stress),
        version=version[1] if version else "",
        tasks=int(tasks[1]) if tasks else None,
        warnings=tuple(dict.fromkeys(_clean(w) for w in _WARNING.findall(text)))[:_MAX_WARNINGS],
        dipole=None if atoms.pbc.any() else _dipole(text),
        hirshfeld_ratios=_hirshfeld_ratios(text, header.n_atoms),
    )
    values = [result.energy, result.free_energy, result.atoms.positions, result.forces]
    values += [] if stress is None else [stress]
    if not all(np.isfinite(v).all() for v in values):
        raise ValueError("a number is not finite")
    return result


def _dipole(text: str) -> NDArray[np.float64] | None:
    """Return the last dipole (e·Å) that `output dipole` has printed; None if it is unreadable."""
    _, title, rest = text.rpartition(_DIPOLE)
    if not title:
        return None
    return _numbers(rest.partition("\n")[0].partition(":")[2].split(), 3)


def _hirshfeld_ratios(text: str, n_atoms: int) -> NDArray[np.float64] | None:
    """Return volumes of the last Hirshfeld analysis over those of free atoms, (N,).

    None if they are not of each atom, or unreadable.
    """
    _, title, analysis = text.rpartition(_HIRSHFELD)
    if not title:
        return None
    bound, free = (
        _numbers(re.findall(rf"\| +{name} volume +: +(\S+)", analysis), n_atoms)
        for name in ("Hirshfeld", "Free atom")
    )
    return None if bound is None or free is None or not free.all() else bound / free


def _numbers(texts: list[str], count: int) -> NDArray[np.float64] | None:
    """Return so many finite numbers; None if they are others: Fortran prints stars, too."""
    try:
        found = np.array([float(text) for text in texts])
    except ValueError:
        return None
    return found if len(found) == count and np.isfinite(found).all() else None


def _check_force_rows(text: str, n_atoms: int) -> None:
    """Raise ValueError unless the forces are complete: ASE takes the last three words of a row."""
    rows = text.rpartition(_FORCES)[2].splitlines()[1 : n_atoms + 1]
    for index, row in enumerate(rows, start=1):
        match = _FORCE_ROW.fullmatch(row.rstrip())
        if match is None or int(match[1]) != index or len(row) != len(rows[0]):
            raise ValueError(f"'{row.strip()}' is not the force on atom {index}")


def _failure(text: str, files: AimsFiles) -> AimspaxError:
    """Return why a calculation did not reach its end."""
    tails = tuple("\n".join(t.splitlines()[-_TAIL:]) for t in (text, files.launcher))
    machine = _trouble(tails, _MACHINE)
    if machine is not None:
        return LabelError(machine, transient=True)
    complaint = _complaint(tails[0], _AT_THE_END) or _complaint(tails[1], _TAIL)
    if complaint is not None:
        if _LOOP in text or _STRUCTURES_FAULT.search(complaint):
            transient = _MACHINES_FAULT.search(complaint) is not None
            return LabelError(f"FHI-aims stopped: {complaint}", transient)
        return EngineError(f"FHI-aims refuses its input: {complaint}")
    if files.exit_code is None:
        return LabelError("FHI-aims was not ready in the time it was given, and was stopped", True)
    launcher = _trouble(tails[::-1], _LAUNCHER)
    if launcher is not None:
        return LabelError(launcher, transient=True)
    what = "stops before its end" if text.strip() else "is empty"
    last = _last_line((files.launcher,), re.compile(r"\S")) or _last_line(
        (text,), re.compile(r"\S")
    )
    ending = f"; last line: '{last}'" if last else ""
    return LabelError(
        f"the output of FHI-aims {what} ({_exit(files.exit_code)}){ending}", transient=True
    )


def _exit(code: int) -> str:
    """Name an exit code, and the signal if it was one (shells add 128)."""
    number = -code if code < 0 else code - 128
    names = {s.value: s.name for s in signal.Signals}
    return f"exit code {code}" + (f", {names[number]}" if number in names else "")


def _trouble(texts: Iterable[str], kinds: Iterable[tuple[str, str]]) -> str | None:
    """Return the first kind of trouble that a text reports, with the line that reports it."""
    texts = tuple(texts)
    for kind, pattern in kinds:
        line = _last_line(texts, re.compile(pattern, re.IGNORECASE))
        if line is not None:
            return f"{kind}: '{line}'"
    return None


def _complaint(text: str, window: int) -> str | None:
    """Return the last error message of FHI-aims.

    Args:
        text: Lines.
        window: So many of the last ones need not speak of an error, only be marked by stars.
    """
    # Each MPI task may say the same.
    lines = list(dict.fromkeys(_clean(re.sub(r"Proc *\d+", "", li)) for li in text.splitlines()))
    lines = [line for line in lines if re.search(r"\w", line)]
    stop = len(lines)
    end = next((i for i in range(max(0, stop - 40), stop) if _NOISE.search(lines[i])), stop)
    wrong, warns = [], False
    for i, line in enumerate(lines):
        warns = _HARMLESS.search(line) is not None or (warns and line.startswith("*"))
        stops = i >= end - window and not warns and _STARRED.fullmatch(line)
        if stops or (_COMPLAINT.match(line) and not _HARMLESS.search(line)):
            wrong.append(i)
    if not wrong:
        return None
    first = last = wrong[-1]
    while first > 0 and (lines[first - 1].startswith("*") or first - 1 in wrong):
        first -= 1
    # A stop may name only the routine, after a sentence on what is wrong.
    if first == last and lines[last].endswith(":"):
        first = max(0, first - 2)
    if last + 1 < len(lines) and lines[last + 1].startswith("line:"):
        last += 1
    message = [line.strip("* ") for line in lines[first : last + 1][:4]]
    return _clean("; ".join([line for line in message if not line.endswith(":")] or message))


def _last_line(texts: Iterable[str], pattern: re.Pattern[str]) -> str | None:
    """Return the last line of the first text that has one with the pattern, without ornaments."""
    for text in texts:
        found = list(pattern.finditer(text))
        if found:
            start = text.rfind("\n", 0, found[-1].start()) + 1
            return _clean(text[start:].partition("\n")[0]).strip("* ")
    return None


def _clean(text: str) -> str:
    """Return text as one line of at most 300 printable characters."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()[:300]
