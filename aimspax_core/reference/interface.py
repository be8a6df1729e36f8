"""What a reference engine is: its description, `Kind`, and the engine itself, `Reference`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from aimspax_core.labels.label import Label
    from aimspax_core.settings.engines import EngineSection


class Reference(Protocol):
    """An engine, set up: it labels structures."""

    def identity(self) -> dict[str, Any]:
        """Return everything that changes the answer, as JSON data; part of every label's key."""
        ...

    def label(self, atoms: Atoms) -> Label:
        """Return energy (eV), forces (eV/Å) and, if there is one, stress (eV/Å³) of a structure.

        What else comes with them, such as a dipole, belongs to the label, too.

        Args:
            atoms: N atoms, positions in Å; `info["charge"]` (e) and `info["spin"]` (2S+1) hold
                before the settings. Left as they are.

        Raises:
            LabelError: The engine gave no usable answer.
        """
        ...

    def calculator(self) -> Calculator:
        """Return an ASE calculator of the same method, for MD driven by the reference."""
        ...


@runtime_checkable
class CanBeAsked(Protocol):
    """An engine that computes more of `label.BESIDE` where it is asked for it."""

    def label_with(self, atoms: Atoms, beside: Collection[str]) -> Label:
        """See `Reference.label`.

        Args:
            atoms: N atoms, positions in Å.
            beside: What else of `label.BESIDE` is wanted.
        """
        ...


@dataclass(frozen=True)
class Use:
    """How an engine is going to be used, as far as it can matter to its settings.

    Attributes:
        directory: The run directory; relative paths in the settings begin there.
        stress: Whether stress will be asked for: of any structure in `Kind.check`, of the one
            structure in `Kind.check_structure`.
        here: Whether the engine runs on this machine; otherwise it runs in jobs of a cluster.
    """

    directory: Path
    stress: bool = False
    here: bool = True


@dataclass(frozen=True)
class Finding:
    """Something that a user should know of an engine's settings before anything is launched.

    Attributes:
        key: The key of the engine's section, such as `control`; or `charge` or `spin`, if it is
            about what the structure says of itself.
        text: What is wrong with it, or may not be meant, in a sentence.
        note: Whether the run can go on all the same; otherwise it is a mistake.
    """

    key: str
    text: str
    note: bool = False


def _nothing_found(section: Any, use: Use) -> Iterator[Finding]:
    return iter(())


def _structure_accepted(section: Any, use: Use, atoms: Atoms) -> Iterator[Finding]:
    return iter(())


def _section_kept(section: Any, directory: Path, folder: Path, multiplicity: int) -> EngineSection:
    return section


def _multiplicity_of_the_atom(number: int) -> int | None:
    return None


def _gives_nothing_more(section: Any, directory: Path, quantity: str) -> str:
    return "it gives energy, forces and stress alone"


def _of_its_keys(section: EngineSection, directory: Path) -> dict[str, float]:
    """Return what the keys `charge` and `spin` say, if there are such."""
    fields = type(section).model_fields
    return {key: float(getattr(section, key)) for key in ("charge", "spin") if key in fields}


@dataclass(frozen=True)
class Kind:
    """A kind of reference engine: all that the rest of the product may ask about it.

    To make one costs nothing: what imports the engine's package is a function, called late. What
    follows from a section alone is asked of the section; see `settings.engines.EngineSection`.

    Attributes:
        section: The settings section; its `engine` is the kind's name.
        make: Returns the engine for a section and the run directory. Raises `SettingsError` or
            `ModelError` if it cannot be had.
        check: Yields mistakes and notes on a section, before anything is launched.
        check_structure: Yields mistakes and notes on a structure that the engine will label;
            asked if `check` has found no mistake.
        frozen: Returns, for a section, the run directory and the chemical symbols of a campaign,
            what may not change on the campaign's way beside the section's keys: JSON data. None:
            the engine's identity.
        identity_has_files: Whether the identity says what is in the files that the section names.
        takes_aims_lines: Whether it takes what a `geometry.in` says beside the structure, such as
            an electric field (`structures.AIMS_LINES`).
        in_vacuum: Returns a section for something small and neutral in vacuum, by the same
            method: what belongs to cells goes, and the spin is that of a multiplicity (2S+1).
            Takes the section, the run directory, a folder for files that this needs, and the
            multiplicity.
        atom_multiplicity: Returns 2S+1 of an element's free atom (by atomic number) where it is
            another than nature's, because the method has fewer electrons; otherwise None.
        electrons: Returns, for a section and the run directory, `charge` (e) and `spin` (2S+1) of
            structures that say nothing of them, as far as the settings tell.
        lacks: Says why labels by a section (and the run directory) lack something of `label.BESIDE`
            that is asked for by name, or would ask for more in the settings; empty if they have it.
    """

    section: type[EngineSection]
    make: Callable[[Any, Path], Reference]
    check: Callable[[Any, Use], Iterator[Finding]] = _nothing_found
    check_structure: Callable[[Any, Use, Atoms], Iterator[Finding]] = _structure_accepted
    frozen: Callable[[Any, Path, frozenset[str]], Mapping[str, Any]] | None = None
    identity_has_files: bool = False
    takes_aims_lines: bool = False
    in_vacuum: Callable[[Any, Path, Path, int], EngineSection] = _section_kept
    atom_multiplicity: Callable[[int], int | None] = _multiplicity_of_the_atom
    electrons: Callable[[Any, Path], Mapping[str, float]] = _of_its_keys
    lacks: Callable[[Any, Path, str], str] = _gives_nothing_more

    @property
    def name(self) -> str:
        """What `REFERENCE.engine` calls it."""
        return self.section.engine_name()
