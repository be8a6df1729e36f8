"""A run directory, read and found fit to run: settings, geometries, and how they go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.data import chemical_symbols

from aimspax_core.campaign.state import Rules
from aimspax_core.errors import SettingsError, StructureError
from aimspax_core.reference.gate import check_structure
from aimspax_core.rundir import RunDir
from aimspax_core.settings.load import Settings, load
from aimspax_core.settings.project import TbliteReference
from aimspax_core.settings.seeds import member_seeds
from aimspax_core.structures import geometry_files, read_geometries


@dataclass(frozen=True)
class Inputs:
    """What the user has given.

    Attributes:
        settings: The settings in force.
        run: Where everything lies, or will lie.
        geometries: The start geometries.
        seeds: Each member's own seed, by tag, in order.
    """

    settings: Settings
    run: RunDir
    geometries: list[Atoms]
    seeds: dict[str, int]

    @classmethod
    def read(cls, directory: Path, overrides: Mapping[str, Any] | None = None) -> Inputs:
        """Read a run directory.

        Args:
            directory: The run directory.
            overrides: Values that replace those of the files; see `settings.load.load`.

        Raises:
            SettingsError: There are mistakes in the settings; the text lists all of them.
            StructureError: A geometry cannot be read, or the gate would keep it back.
        """
        settings = load(directory, overrides)
        geometries = read_geometries(settings.geometry_path)
        _pass_gate(settings, geometries)
        mistakes = [*_elements(settings, geometries), *_spins(settings, geometries)]
        mistakes += _device(settings)
        if mistakes:
            raise SettingsError("\n".join(mistakes))
        settings = replace(settings, notes=(*settings.notes, *_notes(settings, geometries)))
        return cls(settings, RunDir.of(settings), geometries, member_seeds(settings))

    @property
    def rules(self) -> Rules:
        """The numbers that the rules use."""
        return Rules.of(self.settings, tuple(self.seeds), len(self.geometries))

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of all geometries, sorted."""
        return tuple(sorted({int(z) for atoms in self.geometries for z in atoms.numbers}))


def _pass_gate(settings: Settings, geometries: list[Atoms]) -> None:
    """Refuse start geometries that the gate would not let to the reference, all at once."""
    refused = []
    for file, atoms in zip(geometry_files(settings.geometry_path), geometries, strict=True):
        try:
            check_structure(atoms, settings.gate)
        except StructureError as error:
            refused.append(f"{file}: {error}")
    if refused:
        raise StructureError("\n".join(refused))


def _notes(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """What is done otherwise than the files say."""
    asked, needed = settings.al.num_trajectories, len(geometries)
    if asked < needed:
        yield (
            f"aimsPAX.yaml: ACTIVE_LEARNING.num_trajectories is {asked}; there are {needed} "
            f"geometries, so {needed} trajectories are run"
        )


def _elements(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Atomic energies, if given, must cover every element."""
    known = settings.model.ARCHITECTURE.atomic_energies
    found = {int(z) for atoms in geometries for z in atoms.numbers}
    if known is not None and found - set(known):
        missing = ", ".join(chemical_symbols[z] for z in sorted(found - set(known)))
        yield f"mace.yaml  ARCHITECTURE.atomic_energies: no energy for {missing}"


def _spins(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """A multiplicity must suit the number of electrons."""
    reference = settings.reference
    if not isinstance(reference, TbliteReference):
        return
    for file, atoms in zip(geometry_files(settings.geometry_path), geometries, strict=True):
        electrons = int(atoms.numbers.sum()) - reference.charge
        if (electrons + reference.spin) % 2 == 0:
            allowed = "2, 4, …" if electrons % 2 else "1, 3, …"
            yield (
                f"REFERENCE.spin: the multiplicity is {reference.spin}, but with charge "
                f"{reference.charge} {file.name} ({atoms.get_chemical_formula()}) has "
                f"{electrons} electrons; allowed: {allowed}"
            )


def _device(settings: Settings) -> Iterator[str]:
    """A GPU that is asked for must be there."""
    device = settings.model.MISC.device
    if device == "cpu":
        return
    import torch  # takes seconds, and only this needs it

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count <= int(device.partition(":")[2] or 0):
        there = f"torch sees {count} CUDA devices" if count else "torch sees no CUDA device"
        yield f"mace.yaml  MISC.device: found {device!r}; {there}; allowed: cpu"
