"""Any ASE calculator that Python can import, as a reference."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import math
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    CalculationFailed,
    Calculator,
    PropertyNotImplementedError,
    ReadError,
    all_changes,
)
from ase.calculators.genericfileio import GenericFileIOCalculator
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from aimspax_core.errors import AimspaxError, LabelError, SettingsError
from aimspax_core.reference.base import Label
from aimspax_core.reference.importing import named, provider, sha256
from aimspax_core.settings.mistakes import nearest
from aimspax_core.settings.project import AseReference
from aimspax_core.structures import decode, encode

# Errors of the world rather than of the structure: another try may help.
_PASSING = (OSError, subprocess.SubprocessError, ReadError, MemoryError)

_SLOW_S = 0.1
"""A calculator that takes longer to make is kept, and reset from one structure to the next."""


def usable(settings: AseReference, directory: Path, stress: bool = False) -> str | None:
    """Make the calculator once, to find a user's mistake before anything is launched.

    Args:
        settings: Which calculator, and its arguments.
        directory: The run directory; the names of files begin there.
        stress: Whether stress is needed too.

    Returns:
        One sentence on what is wrong, beginning with the key (`calculator` or `arguments`), or
        None if the calculator gives energy, forces and what else is needed.
    """
    try:
        maker = named(settings.calculator)
    except SettingsError as error:
        return f"calculator: {error}"
    wrong = _arguments_refused(maker, settings)
    if wrong is not None:
        return f"arguments: {wrong}"
    try:
        made = maker(**_resolved(settings.arguments, directory)[0])
    # A user's calculator may raise anything.
    except Exception as error:
        return f"arguments: {settings.calculator} cannot be made with these: {_words(error)}"
    known = getattr(made, "implemented_properties", None)
    if known is None or not callable(getattr(made, "calculate", None)):
        return f"calculator: {settings.calculator} is no ASE calculator but {type(made).__name__}"
    needed = ("energy", "forces", "stress") if stress else ("energy", "forces")
    missing = [name for name in needed if name not in known]
    if missing:
        return f"calculator: {settings.calculator} does not compute {' and '.join(missing)}"
    misspelt = _misspelt(made, settings)
    return None if misspelt is None else f"arguments: {misspelt}"


_Files = dict[str, str]
"""Files named in the arguments: SHA-256 by absolute path."""


class AseEngine:
    """A reference that is an ASE calculator of the user's choice.

    It is given what the label's key tells of a structure, and nothing else: numbers, positions,
    cell, periodicity, `info["charge"]` and `info["spin"]`, initial magnetic moments and charges.

    Its answer does not depend on the structures before: each has a calculator of its own, or, if
    making one takes long, the same one after its `reset()`. A calculator that writes files does
    so in a temporary folder, one a calculation, which lies in its argument `directory` if that is
    given, else where the machine keeps temporary files.

    Args:
        settings: Which calculator, its arguments, and the user's word on its version.
        directory: The run directory; the names of files in the arguments begin there.

    Raises:
        SettingsError: It cannot be imported, or a file of the arguments cannot be read.
    """

    def __init__(self, settings: AseReference, directory: Path) -> None:
        self._settings = settings
        self._arguments, self._files = _resolved(settings.arguments, directory)
        self._provider = provider(settings.calculator)
        self._identity = {
            "engine": "ase",
            "calculator": settings.calculator,
            "arguments": _as_json(self._arguments, self._files),
            "version": settings.version,
            "provider": self._provider,
        }
        scratch = settings.arguments.get("directory")
        self._scratch = directory / scratch if isinstance(scratch, str) else None
        self._seen = {path: _signature(path) for path in self._files}
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
        """See `Reference.label`; periodic structures have a stress if the calculator has one.

        Raises:
            LabelError: Transient if a file, a process or memory failed; not transient for
                whatever else the calculator complains of, in its own words.
        """
        began = time.perf_counter()
        try:
            results = self.results(atoms, stress=bool(atoms.pbc.all()))
        except CalculationFailed as error:
            raise LabelError(str(error)) from error
        stress = results.get("stress")
        provenance = {"engine": "ase", "calculator": self._settings.calculator, **self._provider}
        return Label(
            energy=float(results["energy"]),
            forces=np.array(results["forces"], float),
            stress=None if stress is None else _square(np.array(stress, float)),
            provenance={**provenance, "wall_s": time.perf_counter() - began},
        )

    def properties(self) -> list[str]:
        """Return which of energy, forces and stress the calculator implements.

        Raises:
            CalculationFailed, LabelError: It cannot be made; see `results`.
        """
        try:
            with self._lent() as calculator:
                known = calculator.implemented_properties
                return [name for name in ("energy", "forces", "stress") if name in known]
        except AimspaxError:
            raise
        # A calculator may raise anything, even what does not survive the way to another process:
        # so it must not go along as the cause or the context of ours.
        except Exception as error:
            failure = self._told("to be made", error)
        raise failure

    def results(self, atoms: Atoms, stress: bool) -> dict[str, Any]:
        """Compute energy (eV), forces (N × 3, eV/Å) and perhaps stress, all in one calculation.

        Args:
            atoms: N atoms; left as they are.
            stress: Ask for the stress too (eV/Å³), if the calculator implements it. It is left
                out if the calculator then gives none.

        Raises:
            CalculationFailed: The calculator complains, and would again.
            LabelError: Transient: a file, a process or memory failed.
            SettingsError: A file of the arguments is no longer what `identity` tells of.
        """
        bare = decode(encode(atoms))
        try:
            with self._lent() as calculator, _own_folder(calculator, self._scratch):
                return _calculated(calculator, bare, stress)
        except AimspaxError:
            raise
        except Exception as error:  # see `properties`
            failure = self._told(f"on {bare.get_chemical_formula()}", error)
        raise failure

    @contextlib.contextmanager
    def _lent(self) -> Iterator[Any]:
        """Lend a calculator that knows nothing of earlier structures."""
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
        for path, digest in self._files.items():
            if _signature(path) != self._seen[path] and sha256(Path(path)) != digest:
                raise SettingsError(f"{path} was replaced while the run was using it")

    def _made(self) -> Any:
        return self._maker(**copy.deepcopy(self._arguments))

    @functools.cached_property
    def _maker(self) -> Callable[..., Any]:
        return named(self._settings.calculator)

    def _told(self, where: str, error: Exception) -> LabelError | CalculationFailed:
        """Tell errors apart: those of the world, and those that the structure would meet again."""
        text = f"{self._settings.calculator} failed {where}: {_words(error)}"
        if isinstance(error, _PASSING):
            return LabelError(text, transient=True)
        return CalculationFailed(text)


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
        self.results = self._engine.results(self.atoms, self._stress)


def _calculated(calculator: Any, atoms: Atoms, stress: bool) -> dict[str, Any]:
    """Run a calculator that is fresh or reset, once; see `AseEngine.results`."""
    wanted = ["energy", "forces"]
    if stress and "stress" in calculator.implemented_properties:
        wanted.append("stress")
    calculator.atoms = atoms.copy()
    calculator.calculate(atoms, wanted, list(all_changes))
    found = {name: calculator.results.get(name) for name in wanted}
    missing = [name for name in ("energy", "forces") if found[name] is None]
    if missing:
        raise PropertyNotImplementedError(f"it gave no {' and no '.join(missing)}")
    return {name: copy.copy(value) for name, value in found.items() if value is not None}


def _arguments_refused(maker: Callable[..., Any], settings: AseReference) -> str | None:
    """Return what the signature says against the arguments, or None."""
    signature = _declared(maker)
    if signature is None:
        return None
    known = [p for p in signature.parameters.values() if p.kind is not p.VAR_POSITIONAL]
    if not any(p.kind is p.VAR_KEYWORD for p in known):
        names = [p.name for p in known if p.kind is not p.POSITIONAL_ONLY]
        for name in settings.arguments:
            if name not in names:
                hint = nearest(name, names) or f"; allowed: {', '.join(names) or 'nothing'}"
                return f"{settings.calculator} takes no {name}{hint}"
    try:
        signature.bind(**settings.arguments)
    except TypeError as error:
        return f"{settings.calculator}: {error}"
    return None


def _misspelt(made: Any, settings: AseReference) -> str | None:
    """Return what is wrong with a name that ASE's own calculators would pass over in silence."""
    known = {*getattr(made, "default_parameters", ())}
    if not known or _writes_files(made):  # those hand whatever they get to another program
        return None
    for kind in type(made).__mro__:
        declared = _declared(vars(kind).get("__init__"))
        known |= {*declared.parameters} if declared else set()
    for name in settings.arguments:
        hint = nearest(name, known - {"self", "args", "kwargs"})
        if name not in known and hint:
            return f"{settings.calculator} has no {name}{hint}"
    return None


def _declared(maker: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(maker)
    except (TypeError, ValueError):  # of some classes written in C
        return None


def _writes_files(calculator: Any) -> bool:
    return isinstance(calculator, GenericFileIOCalculator) or hasattr(calculator, "write_input")


@contextlib.contextmanager
def _own_folder(calculator: Any, parent: Path | None) -> Iterator[None]:
    """Give a calculator that writes files a folder that no other calculation has."""
    if not _writes_files(calculator):
        yield
        return
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix="aimspax-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        calculator.directory = Path(folder)
        yield


def _resolved(arguments: Mapping[str, Any], directory: Path) -> tuple[dict[str, Any], _Files]:
    """Make the names of files absolute.

    Returns:
        The arguments anew, and the SHA-256 of every file among them.
    """
    files: _Files = {}

    def absolute(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: absolute(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(absolute(inner) for inner in value)
        path = _file(value, directory) if isinstance(value, str) else None
        if path is None:
            return copy.deepcopy(value)
        files[str(path)] = sha256(path)
        return str(path)

    return {name: absolute(value) for name, value in arguments.items()}, files


def _file(text: str, directory: Path) -> Path | None:
    try:
        path = directory.resolve() / Path(text).expanduser()
        return path if path.is_file() else None
    # Too long for a name, or the home of nobody: some other text.
    except (OSError, RuntimeError, ValueError):
        return None


def _as_json(value: Any, files: _Files) -> Any:
    """Return an argument as JSON data, the name of a file as its content's SHA-256."""
    if isinstance(value, str) and value in files:
        return {"sha256": files[value]}
    if isinstance(value, Mapping):
        return {str(name): _as_json(inner, files) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner, files) for inner in value]
    plain = value is None or isinstance(value, str | bool | int | float)
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if plain and finite else repr(value)


def _signature(path: str) -> tuple[int, int] | None:
    """Return what changes when a file is written; reading all of it takes longer."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _square(stress: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a stress as (3, 3), also if the calculator gave ASE's six numbers (Voigt)."""
    full = stress if stress.shape != (6,) else voigt_6_to_full_3x3_stress(stress)
    return np.array(full, float)


def _words(error: Exception) -> str:
    """Return what an error says, in one line; a KeyError without its quotes."""
    said = error.args[0] if isinstance(error, KeyError) and len(error.args) == 1 else error
    text = " ".join(str(said).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
