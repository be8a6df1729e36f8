"""Any ASE calculator that Python can import, as a reference."""

from __future__ import annotations

import contextlib
import copy
import functools
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    CalculationFailed,
    Calculator,
    PropertyNotImplementedError,
    ReadError,
    SCFError,
    all_changes,
)
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from aimspax_core.errors import AimspaxError, LabelError, LabelFailure, SettingsError
from aimspax_core.labels.gate import one, real
from aimspax_core.labels.label import Label
from aimspax_core.reference.ase.arguments import SCRATCH, Arguments
from aimspax_core.reference.ase.checks import (
    computed_properties,
    error_text,
    file_signature,
    runs_a_program,
)
from aimspax_core.reference.ase.importing import named, provider, sha256
from aimspax_core.reference.ase.section import AseReference
from aimspax_core.reference.calculation_folder import calculation_folder, not_converged
from aimspax_core.structures import decode, encode

# Errors of the world rather than of the structure: another try may help.
_PASSING = (OSError, subprocess.SubprocessError, ReadError, MemoryError)

_SLOW_S = 0.1
"""Seconds; a calculator that takes longer to make is kept, and reset for each structure."""


class AseEngine:
    """A reference that is an ASE calculator of the user's choice.

    The calculator gets what the label's key is made of, and nothing else: numbers, positions,
    cell, periodicity, `info["charge"]` and `info["spin"]`, initial magnetic moments and charges.

    Its answer does not depend on the structures before: each has a calculator of its own, or, if
    making one takes long, the same one after its `reset()`. A calculator that runs a program does
    so in a folder of its own, one a calculation, in `calc_dir` (or in the argument `directory`,
    which is another name of it); see `reference.calculation_folder`.

    Args:
        settings: Which calculator, its arguments, and the user's word on its version.
        directory: The run directory; the names of files in the arguments begin there.

    Raises:
        SettingsError: It cannot be imported, or a file of the arguments cannot be read.
    """

    def __init__(self, settings: AseReference, directory: Path) -> None:
        self._settings = settings
        self._arguments = Arguments.read(settings.arguments, directory)
        self._provider = provider(settings.calculator)
        for path in self._arguments.imports:
            self._provider |= provider(path)
        self._identity = {
            "engine": "ase",
            "calculator": settings.calculator,
            "arguments": self._arguments.identity,
            "version": settings.version,
            "provider": self._provider,
        }
        scratch = settings.arguments.get(SCRATCH)
        self._folders = directory / (scratch if isinstance(scratch, str) else settings.calc_dir)
        self._seen = {path: file_signature(path) for path in self._arguments.files}
        self._kept: Any = None
        self._lock = threading.Lock()

    def identity(self) -> dict[str, Any]:
        """See `Reference.identity`.

        A file in the arguments counts by its content. A calculator's package counts by its
        version, a module that belongs to no package by its source.
        """
        return copy.deepcopy(self._identity)

    def calculator(self) -> Calculator:
        """See `Reference.calculator`.

        Raises:
            LabelError: The calculator cannot be made.
        """
        return _Driver(self)

    def label(self, atoms: Atoms) -> Label:
        """See `label_with`."""
        return self.label_with(atoms, ())

    def label_with(self, atoms: Atoms, beside: Collection[str]) -> Label:
        """Label a structure; a periodic one has a stress if the calculator has one.

        Some calculators compute a dipole only if it is asked for.

        Args:
            atoms: N atoms, positions in Å.
            beside: What else of `label.BESIDE` is wanted.

        Raises:
            LabelError: Transient if a file, a process or memory failed; not transient for
                any other error of the calculator, with its message.
        """
        began = time.perf_counter()
        try:
            dipole = "dipole" in beside and not atoms.pbc.any()
            results, structure = self.results(atoms, bool(atoms.pbc.all()), dipole)
        except CalculationFailed as error:
            unconverged = isinstance(error, SCFError)
            kind = LabelFailure.SCF if unconverged else LabelFailure.OTHER
            raise LabelError(str(error), kind=kind) from error
        stress = results.get("stress")
        provenance = {"engine": "ase", "calculator": self._settings.calculator, **self._provider}
        return Label(
            energy=one(results["energy"], "energy"),
            forces=real(results["forces"], "forces"),
            stress=None if stress is None else _square(real(stress, "stress")),
            structure=structure,
            dipole=None if atoms.pbc.any() else _dipole(results.get("dipole")),
            provenance={**provenance, "wall_s": time.perf_counter() - began},
        )

    def properties(self) -> list[str]:
        """Return which of energy, forces and stress the calculator implements.

        Raises:
            CalculationFailed, LabelError: It cannot be made; see `results`.
        """
        try:
            with self._lent() as calculator:
                known = computed_properties(calculator)
                return [name for name in ("energy", "forces", "stress") if name in known]
        except AimspaxError:
            raise
        # A calculator may raise anything, even what does not survive the way to another process:
        # so it must not go along as the cause or the context of ours.
        except Exception as error:
            failure = self._failure("to be made", error)
        raise failure

    def results(
        self, atoms: Atoms, stress: bool, dipole: bool = False
    ) -> tuple[dict[str, Any], Atoms | None]:
        """Compute energy (eV), forces (N × 3, eV/Å) and perhaps stress, all in one calculation.

        Args:
            atoms: N atoms; left as they are.
            stress: Ask for the stress too (eV/Å³), if the calculator implements it. It is left
                out if the calculator then gives none.
            dipole: Ask for the dipole too (e·Å), likewise.

        Returns:
            The results, and the structure in the program's output, if there is one.

        Raises:
            CalculationFailed: The calculator failed, and would again.
            LabelError: Transient: a file, a process or memory failed.
            SettingsError: A file of the arguments has changed since `identity` was computed.
        """
        bare = decode(encode(atoms))
        more = [name for name, asked in (("stress", stress), ("dipole", dipole)) if asked]
        try:
            with self._lent() as calculator:
                return self._answered(calculator, bare, more)
        except AimspaxError:
            raise
        except Exception as error:  # see `properties`
            failure = self._failure(f"on {bare.get_chemical_formula()}", error)
        raise failure

    def _answered(
        self, calculator: Any, atoms: Atoms, more: list[str]
    ) -> tuple[dict[str, Any], Atoms | None]:
        if not runs_a_program(calculator):
            return _calculated(calculator, atoms, more), None
        with (
            calculation_folder(self._folders, atoms, self._settings.clean_dirs) as folder,
            _program(calculator, folder),
        ):
            return _calculated(calculator, atoms, more), _read_back(calculator)

    @contextlib.contextmanager
    def _lent(self) -> Iterator[Any]:
        """Lend a calculator without results of earlier structures."""
        self._require_files()
        if self._kept is None:
            began = time.perf_counter()
            made = self._made()
            if time.perf_counter() - began < _SLOW_S:
                yield made
                return
            self._kept = made
        with self._lock:
            kept = self._kept = self._made() if self._kept is None else self._kept
            # Calculators of ASE's newer kind have no `reset`.
            kept.atoms, kept.results = None, {}
            getattr(kept, "reset", lambda: None)()
            try:
                yield kept
            except BaseException:
                self._kept = None  # its process may be dead
                raise

    def _require_files(self) -> None:
        for path, digest in self._arguments.files.items():
            if file_signature(path) != self._seen[path] and sha256(Path(path)) != digest:
                raise SettingsError(f"{path} was replaced while the run was using it")

    def _made(self) -> Any:
        return self._maker(**self._arguments.made())

    @functools.cached_property
    def _maker(self) -> Callable[..., Any]:
        return named(self._settings.calculator)

    def _failure(self, where: str, error: Exception) -> LabelError | CalculationFailed:
        """Return a transient error if files, processes or memory failed, else a lasting one."""
        message = "; ".join([error_text(error), *getattr(error, "__notes__", ())])
        text = f"{self._settings.calculator} failed {where}: {message}"
        if isinstance(error, _PASSING):
            return LabelError(text, transient=True)
        return SCFError(text) if isinstance(error, SCFError) else CalculationFailed(text)


class _Driver(Calculator):
    """The engine as a calculator for MD: as independent of the step before as a label is."""

    def __init__(self, engine: AseEngine) -> None:
        super().__init__()
        self.implemented_properties = engine.properties()
        self._engine = engine
        self._stress = False

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        # Asked once, it is asked at every step: compute it with the forces from then on.
        self._stress |= "stress" in (properties or ())
        self.results, _ = self._engine.results(self.atoms, self._stress)


def _calculated(calculator: Any, atoms: Atoms, more: list[str]) -> dict[str, Any]:
    """Run a calculator that is fresh or reset, once; see `AseEngine.results`."""
    known = computed_properties(calculator) if more else ()
    wanted = ["energy", "forces", *(name for name in more if name in known)]
    calculator.atoms = atoms.copy()
    calculator.calculate(atoms, wanted, list(all_changes))
    found = {name: calculator.results.get(name) for name in wanted}
    missing = [name for name in ("energy", "forces") if found[name] is None]
    if missing:
        raise PropertyNotImplementedError(
            f"it gave no {' and no '.join(missing)}; its arguments may have to ask for them"
        )
    found["dipole"] = calculator.results.get("dipole")
    return {name: copy.copy(value) for name, value in found.items() if value is not None}


@contextlib.contextmanager
def _program(calculator: Any, folder: Path) -> Iterator[None]:
    """Watch over a calculator that runs a program in a folder.

    Raises:
        SCFError: The program says that it has not converged, whatever else it did: some programs,
            or ASE's readers of them, give energy and forces all the same.
        subprocess.SubprocessError: The program failed otherwise.
    """
    calculator.directory = folder
    try:
        yield
    # CP2K's calculator asserts that its process lives.
    except (CalculationFailed, AssertionError) as error:
        if isinstance(error, SCFError):
            raise
        raise subprocess.SubprocessError(str(error) or "its process ended") from error
    finally:
        line = not_converged(folder)
        if line is not None:
            raise SCFError(line)
    if getattr(calculator, "converged", None) is False:
        raise SCFError("it has not converged")


def _read_back(calculator: Any) -> Atoms | None:
    """Return the calculator's atoms: those in its program's output, if it reads them."""
    read = getattr(getattr(calculator, "calc", None), "atoms", None)  # by NWChem's calculator
    found = getattr(calculator, "atoms", None) if read is None else read
    return found if isinstance(found, Atoms) else None


def _dipole(found: Any) -> NDArray[np.float64] | None:
    """Return a dipole (e·Å) that came with the forces; it may be unfit, and not asked for."""
    if found is None:
        return None
    try:
        dipole = real(found, "dipole")
    except LabelError:
        return None
    return dipole if dipole.shape == (3,) and np.isfinite(dipole).all() else None


def _square(stress: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a stress as (3, 3), also if the calculator gave ASE's six numbers (Voigt)."""
    full = stress if stress.shape != (6,) else voigt_6_to_full_3x3_stress(stress)
    return np.array(full, float)
