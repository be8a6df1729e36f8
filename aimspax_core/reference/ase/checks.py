"""What keeps an ASE calculator from answering, found before it is asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.genericfileio import GenericFileIOCalculator

from aimspax_core.errors import SettingsError
from aimspax_core.reference.ase.arguments import Arguments, objects
from aimspax_core.reference.ase.importing import named
from aimspax_core.reference.ase.section import AseReference
from aimspax_core.text import did_you_mean

_LARGE = 2000
"""Structures with more atoms may take seconds."""

_QUICK = {
    f"ase.calculators.{name}"
    for name in (
        *("eam.EAM", "emt.EMT", "idealgas.IdealGas", "lj.LennardJones"),
        *("morse.MorsePotential", "tersoff.Tersoff", "tip3p.TIP3P", "tip4p.TIP4P"),
    )
}
"""Calculators that compute here, by formulas alone. All others are programs, wait for one, or may
have one inside them."""


def usable(
    settings: AseReference, directory: Path, stress: bool = False, more: tuple[str, ...] = ()
) -> str | None:
    """Make the calculator once, to find a user's mistake before anything is launched.

    Args:
        settings: Which calculator, and its arguments.
        directory: The run directory; the names of files begin there.
        stress: Whether stress is needed too.
        more: What else is needed, by ASE's names.

    Returns:
        One sentence on what is wrong, beginning with the key (`calculator` or `arguments`), or
        None if the calculator gives energy, forces and what else is needed.
    """
    try:
        maker = named(settings.calculator)
    except SettingsError as error:
        return f"calculator: {error}"
    wrong = _objects_refused(settings.arguments)
    wrong = wrong or _arguments_refused(maker, settings.calculator, settings.arguments)
    if wrong is not None:
        return f"arguments: {wrong}"
    try:
        made = maker(**Arguments.read(settings.arguments, directory).made())
    # A user's calculator may raise anything.
    except Exception as error:
        return f"arguments: {settings.calculator} cannot be made with these: {error_text(error)}"
    known = getattr(made, "implemented_properties", None)
    if known is None or not callable(getattr(made, "calculate", None)):
        return f"calculator: {settings.calculator} is no ASE calculator but {type(made).__name__}"
    needed = ("energy", "forces", *(("stress",) if stress else ()), *more)
    missing = [name for name in needed if name not in computed_properties(made)]
    if missing:
        return f"calculator: {settings.calculator} does not compute {' and '.join(missing)}"
    misspelt = _misspelt(made, settings)
    return None if misspelt is None else f"arguments: {misspelt}"


def structure_refused(settings: AseReference, directory: Path, atoms: Atoms) -> str | None:
    """Ask ASE's own calculators that compute here, by formulas, for the energy of a structure.

    Each knows elements, cells and sequences of atoms of its own, and says so only when it is asked.
    Programs, calculators around others, and those of others may take hours, or wait for ever:
    `aimspax doctor` asks them.

    Args:
        settings: Which calculator, and its arguments, which `usable` has found fit.
        directory: The run directory; the names of files begin there.
        atoms: The structure.

    Returns:
        Why it has none, beginning with the key, or None.
    """
    made = named(settings.calculator)(**Arguments.read(settings.arguments, directory).made())
    kind = type(made)
    if f"{kind.__module__}.{kind.__qualname__}" not in _QUICK or len(atoms) > _LARGE:
        return None
    asked = atoms.copy()
    asked.set_constraint()
    asked.calc = made
    try:
        asked.get_potential_energy()
    # They refuse in many ways: NotImplementedError, KeyError, ValueError.
    except Exception as error:
        return f"calculator: {settings.calculator} cannot compute it: {error_text(error)}"
    return None


def _objects_refused(arguments: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an object among the arguments, or None."""
    try:
        found = list(objects(arguments))
    except SettingsError as error:
        return str(error)
    for key, path, given in found:
        try:
            wrong = _arguments_refused(named(path), path, given)
        except SettingsError as error:
            wrong = str(error)
        if wrong is not None:
            return f"{key}: {wrong}"
    return None


def _arguments_refused(
    maker: Callable[..., Any], path: str, arguments: Mapping[str, Any]
) -> str | None:
    """Return what the signature says against the arguments, or None."""
    signature = _declared(maker)
    if signature is None:
        return None
    known = [p for p in signature.parameters.values() if p.kind is not p.VAR_POSITIONAL]
    if not any(p.kind is p.VAR_KEYWORD for p in known):
        names = [p.name for p in known if p.kind is not p.POSITIONAL_ONLY]
        for name in arguments:
            if name not in names:
                hint = did_you_mean(name, names) or f"; allowed: {', '.join(names) or 'nothing'}"
                return f"{path} takes no {name}{hint}"
    try:
        signature.bind(**arguments)
    except TypeError as error:
        return f"{path}: {error}"
    return None


def _misspelt(made: Any, settings: AseReference) -> str | None:
    """Return what is wrong with a name that ASE's own calculators would pass over in silence."""
    known = {*getattr(made, "default_parameters", ())}
    if not known or runs_a_program(made):  # those hand whatever they get to another program
        return None
    for kind in type(made).__mro__:
        declared = _declared(vars(kind).get("__init__"))
        known |= {*declared.parameters} if declared else set()
    for name in settings.arguments:
        hint = did_you_mean(name, known - {"self", "args", "kwargs"})
        if name not in known and hint:
            return f"{settings.calculator} has no {name}{hint}"
    return None


def _declared(maker: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(maker)
    except (TypeError, ValueError):  # of some classes written in C
        return None


def runs_a_program(calculator: Any) -> bool:
    """Return whether a calculator, or the one inside it, writes files for another program."""
    return isinstance(calculator, GenericFileIOCalculator) or any(
        hasattr(calculator, name) for name in ("write_input", "command")
    )


def computed_properties(calculator: Any) -> set[str]:
    """Return the properties that a calculator computes.

    CP2K's implements stress, but gives zeros if `stress_tensor` is off.
    """
    parameters = getattr(calculator, "parameters", None)
    off = isinstance(parameters, Mapping) and parameters.get("stress_tensor") is False
    return {*calculator.implemented_properties} - ({"stress"} if off else set())


def file_signature(path: str) -> tuple[int, int] | None:
    """Return size and time of a file, which change when it is written; None if it is not there."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def error_text(error: Exception) -> str:
    """Return type and message of an error in one line; a KeyError without its quotes."""
    message = error.args[0] if isinstance(error, KeyError) and len(error.args) == 1 else error
    text = " ".join(str(message).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
