"""A run directory, read and found fit to run: settings, geometries, and how they go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ase import Atoms
from ase.data import chemical_symbols

from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.campaign.state import CampaignState, Rules
from aimspax_core.errors import CampaignError, SettingsError, StructureError
from aimspax_core.pretrained import Pretrained, find_pretrained, seeds_of
from aimspax_core.reference.ase_engine import usable
from aimspax_core.reference.gate import check_structure
from aimspax_core.rundir import RunDir
from aimspax_core.sampling.dynamics import why_not
from aimspax_core.settings.files import settings_files
from aimspax_core.settings.load import Settings, load
from aimspax_core.settings.project import (
    AseReference,
    MaceMpReference,
    MaceReference,
    TbliteReference,
)
from aimspax_core.settings.seeds import member_seeds
from aimspax_core.structures import read_geometries

Part = Literal["all", "initial", "active"]
"""What is asked for: a whole campaign, its initial dataset, or active learning from there."""


@dataclass(frozen=True)
class Inputs:
    """What the user has given.

    Attributes:
        settings: The settings in force.
        run: Where everything lies, or will lie.
        geometries: The start geometries.
        seeds: Each member's own seed, by tag, in order.
        pretrained: Members and datasets that the campaign begins from, if it does.
    """

    settings: Settings
    run: RunDir
    geometries: list[Atoms]
    seeds: dict[str, int]
    pretrained: Pretrained | None = None

    @classmethod
    def read(
        cls, directory: Path, overrides: Mapping[str, Any] | None = None, part: Part = "all"
    ) -> Inputs:
        """Read a run directory.

        Args:
            directory: The run directory.
            overrides: Values that replace those of the files, and names of other files; see
                `settings.load.load` and `settings.files`.
            part: What is going to run. `active` without a campaign begins from the members and
                datasets that are there, and so does `all` without INITIAL_DATASET_GENERATION.

        Raises:
            SettingsError: There are mistakes in the settings; the text lists all of them.
            StructureError: A geometry cannot be read, or the gate would keep it back.
            CampaignError: `active` was asked for, and the initial dataset is not done yet.
        """
        settings = load(directory, *settings_files(Path(directory), overrides))
        settings.require(part)
        run = RunDir.of(settings)
        geometries = read_geometries(settings.geometry_files)
        _pass_gate(settings, geometries)
        mistakes = [
            *_elements(settings, geometries),
            *_spins(settings, geometries),
            *_dynamics(settings, geometries),
            *_engines(settings),
            *_device(settings),
        ]
        if mistakes:
            raise SettingsError("\n".join(mistakes))
        settings = replace(settings, notes=(*settings.notes, *_notes(settings, geometries)))
        _, state = load_journal(run)
        if not _adopts(settings, run, state, part):
            return cls(settings, run, geometries, member_seeds(settings))
        if state is not None:  # what was adopted is the campaign's by now, wherever it came from
            seeds = seeds_of(state.rules.tags, settings, run)
            done = state.published_initial
            return cls(
                settings, run, geometries, seeds, None if done else find_pretrained(settings, run)
            )
        found = find_pretrained(settings, run)
        return cls(settings, run, geometries, seeds_of(found.models, settings, run), found)

    @property
    def rules(self) -> Rules:
        """The numbers that the rules use."""
        return Rules.of(self.settings, tuple(self.seeds), len(self.geometries))

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of all geometries, sorted."""
        return tuple(sorted({int(z) for atoms in self.geometries for z in atoms.numbers}))


def _adopts(settings: Settings, run: RunDir, state: CampaignState | None, part: Part) -> bool:
    """Whether the campaign begins, or began, from members and datasets that were there.

    Raises:
        CampaignError: It does not, and has no initial dataset to explore from.
    """
    if state is None:
        return part == "active" or not settings.has_initial
    if part == "active" and not (state.published_initial or state.adopted):
        raise CampaignError(
            f"{run.output}: the initial dataset is not done yet; "
            "`aimspax initial-dataset` makes it, `aimspax run` does both"
        )
    return state.adopted


def _dynamics(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Each geometry must be one that its ensemble can move."""
    by_index = isinstance(settings.project.MD, dict)
    for index, (file, atoms) in enumerate(zip(settings.geometry_files, geometries, strict=True)):
        why = why_not(atoms, settings.md(index))
        if why is not None:
            hint = "" if by_index else " (MD may be given for each geometry, by index)"
            place = f"MD.{index}" if by_index else "MD"
            yield f"aimsPAX.yaml  {place}: {file.name}: {why}{hint}"


def _engines(settings: Settings) -> Iterator[str]:
    """ASE calculators must be there, and cuEquivariance if it is asked for."""
    engines = {"REFERENCE": settings.reference}
    if settings.idg.initial_sampling == "engine" and settings.idg.sampling_engine is not None:
        engines["INITIAL_DATASET_GENERATION.sampling_engine"] = settings.idg.sampling_engine
    for place, engine in engines.items():
        if isinstance(engine, AseReference):
            why = usable(engine, settings.directory)
            if why is not None:
                yield f"aimsPAX.yaml  {place}.{why}"


def _pass_gate(settings: Settings, geometries: list[Atoms]) -> None:
    """Refuse start geometries that the gate would not let to the reference, all at once."""
    refused = []
    for file, atoms in zip(settings.geometry_files, geometries, strict=True):
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
    for file, atoms in zip(settings.geometry_files, geometries, strict=True):
        electrons = int(atoms.numbers.sum()) - reference.charge
        if (electrons + reference.spin) % 2 == 0:
            allowed = "2, 4, …" if electrons % 2 else "1, 3, …"
            yield (
                f"REFERENCE.spin: the multiplicity is {reference.spin}, but with charge "
                f"{reference.charge} {file.name} ({atoms.get_chemical_formula()}) has "
                f"{electrons} electrons; allowed: {allowed}"
            )


def _device(settings: Settings) -> Iterator[str]:
    """A GPU that is asked for must be there, and what needs one must have it."""
    devices = {"mace.yaml  MISC.device": settings.model.MISC.device}
    if isinstance(settings.reference, MaceReference | MaceMpReference):
        devices["aimsPAX.yaml  REFERENCE.device"] = settings.reference.device
    for place, device in devices.items():
        if device != "cpu":
            yield from _missing_gpu(place, device)
    if settings.model.MISC.enable_cueq:
        from aimspax_core.model.mace import why_no_cueq  # takes seconds, and only this needs it

        why = why_no_cueq(settings.model)
        if why is not None:
            yield f"mace.yaml  MISC.enable_cueq: {why}"


def _missing_gpu(place: str, device: str) -> Iterator[str]:
    import torch  # takes seconds, and only this needs it

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count <= int(device.partition(":")[2] or 0):
        there = f"torch sees {count} CUDA devices" if count else "torch sees no CUDA device"
        yield f"{place}: found {device!r}; {there}; allowed: cpu"
