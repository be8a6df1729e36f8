"""The settings in force: what the user wrote, validated, with what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms

from aimspax_core.machine import machine_cores, visible_gpus
from aimspax_core.settings.cluster import Cluster
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.geometries.earlier import Earlier, structures_as_begun
from aimspax_core.settings.geometries.files import read_file
from aimspax_core.settings.geometries.held_atoms import NOTHING_HELD, HeldAtoms
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.md import MD, Dynamics
from aimspax_core.settings.misc import Misc
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import (
    ActiveLearning,
    InitialDatasetGeneration,
    ProjectSettings,
)
from aimspax_core.settings.reading.mistakes import missing_section, settings_error
from aimspax_core.settings.reading.places import Places
from aimspax_core.settings.reading.wording import schema_of
from aimspax_core.settings.samples import Rattle
from aimspax_core.structures import with_electrons

PROJECT_FILES = ("aimsPAX.yaml", "aimsPAX.yml")
PROJECT_FILE = PROJECT_FILES[0]

_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"


MODEL_FILES = ("mace.yaml", "model.yaml", "mace.yml", "model.yml")
"""Names under which a run directory may have either file; of each only one."""


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do: both files, validated, and where they were found.

    Attributes:
        directory: The run directory.
        project: Of `aimsPAX.yaml`.
        model: Of `mace.yaml`.
        notes: What was read in another way than written, or may not be meant.
        begun_without: How geometries, by index, were read by the release that began the campaign,
            if that is not how their files are read today.
        held: What each geometry, by index, holds while atoms move, in the campaign that begins or
            goes on; those that are not named hold nothing. None: what their files say.
        electrons: Charge and multiplicity that REFERENCE gives structures of each geometry, by
            index, and that models which read them are told; nothing where they are told nothing.
        places: Where the keys of either file stand, for messages.
    """

    directory: Path
    project: ProjectSettings
    model: ModelSettings
    notes: tuple[str, ...] = ()
    begun_without: Mapping[int, Earlier] = field(default_factory=dict)
    held: Mapping[int, HeldAtoms] | None = None
    electrons: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    places: tuple[Places, Places] = (Places(PROJECT_FILE), Places(MODEL_FILES[0]))

    @property
    def project_places(self) -> Places:
        """Where the keys of `aimsPAX.yaml` stand, under whichever name the user has it."""
        return self.places[0]

    @property
    def model_places(self) -> Places:
        """Where the keys of `mace.yaml` stand, under whichever name the user has it."""
        return self.places[1]

    @cached_property
    def idg(self) -> InitialDatasetGeneration:
        """The section INITIAL_DATASET_GENERATION; without one, what stands in for it.

        A campaign without that section does not run the phase, but has as many members as
        ACTIVE_LEARNING says, and its rules have the phase's numbers.
        """
        section = self.project.INITIAL_DATASET_GENERATION
        return section or InitialDatasetGeneration.not_run(self.project.ACTIVE_LEARNING)

    @cached_property
    def al(self) -> ActiveLearning:
        """The section ACTIVE_LEARNING; without one, what stands in for it."""
        return self.project.ACTIVE_LEARNING or ActiveLearning.not_run()

    def md_section(self, geometry: int) -> MD:
        """The section MD that holds for a geometry."""
        md = self.project.MD
        return md[geometry] if isinstance(md, dict) else md

    def md(self, geometry: int, number: int = 0) -> Dynamics:
        """The dynamics of one of a geometry's trajectories, or of a sampling step; from 0."""
        return self.md_section(geometry).at(number)

    def sampled_by_rattling(self, geometry: int) -> Rattle | None:
        """How a geometry is rattled in place of sampling MD; None: MD samples."""
        if self.idg.initial_sampling != "rattle":
            return None
        return self.idg.rattle_of(geometry) or Rattle()

    @property
    def misc(self) -> Misc:
        """The section MISC of `aimsPAX.yaml`."""
        return self.project.MISC

    @property
    def gate(self) -> Gate:
        """The section GATE."""
        return self.project.GATE

    @property
    def reference(self) -> EngineSettings:
        """The section REFERENCE."""
        return self.project.REFERENCE

    def reference_of(self, geometry: int) -> EngineSettings:
        """The section REFERENCE as it holds for a geometry, with its own control file if it has."""
        return self.reference.of_geometry(geometry)

    def sampling_engine_of(self, geometry: int) -> EngineSettings | None:
        """The engine that drives a geometry's sampling MD; None: a foundation model does."""
        engines = {"aimd": self.reference, "engine": self.idg.sampling_engine}
        engine = engines.get(self.idg.initial_sampling)
        return None if engine is None else engine.of_geometry(geometry)

    @cached_property
    def cluster(self) -> Cluster:
        """The section CLUSTER; without one, a local pool sized from this machine."""
        return self.project.CLUSTER or Cluster(type="local", max_workers=machine_cores())

    @cached_property
    def ml_workers(self) -> int:
        """Processes that train and run MD: one a GPU, or one a core; one a member at most."""
        asked, jobs = self.cluster.ml.max_workers, self.cluster.ml_jobs
        if jobs is not None:
            return min(asked or self.idg.ensemble_size, jobs.most)
        if asked is not None:
            return asked
        device = self.model.MISC.device
        places = {"cpu": machine_cores, "cuda": lambda: len(visible_gpus())}.get(device, lambda: 1)
        return max(1, min(places(), self.idg.ensemble_size))

    @property
    def has_initial(self) -> bool:
        """Whether the files ask for an initial dataset."""
        return self.project.INITIAL_DATASET_GENERATION is not None

    def require(self, part: str) -> None:
        """Refuse to run a part that there is no section for.

        Args:
            part: `initial`, `active` or `all`; the last can do without an initial dataset.

        Raises:
            SettingsError: The section is missing.
        """
        needed = _IDG if part == "initial" else _AL
        if getattr(self.project, needed) is None:
            mistake = missing_section(schema_of(ProjectSettings), needed)
            hint = "; `aimspax initial-dataset` does without" if part == "all" else ""
            file, why = self.project_places.file, mistake.why + hint
            raise settings_error([replace(mistake, file=file, key=needed, why=why)])

    @property
    def stress(self) -> bool:
        """Whether labels of periodic structures need stress."""
        return self.model.stress

    @property
    def geometry_files(self) -> list[Path]:
        """The files of the start geometries, in their order.

        Raises:
            StructureError: There is none.
        """
        return self.misc.geometry_files(self.directory)

    def geometries(self, indices: Sequence[int] | None = None) -> list[Atoms]:
        """Read the start geometries as the campaign takes them.

        Args:
            indices: Those that are wanted, in this order; None: all.

        Raises:
            StructureError: One cannot be read.
        """
        files = self.geometry_files
        wanted = range(len(files)) if indices is None else indices
        begun = self.begun_without
        earlier = {place: begun[i] for place, i in enumerate(wanted) if i in begun}
        found = structures_as_begun([files[i] for i in wanted], earlier, self.misc.electron_names)
        return [self.told(atoms, i) for i, atoms in zip(wanted, found, strict=True)]

    def told(self, atoms: Atoms, geometry: int) -> Atoms:
        """Return a structure of a geometry with the charge and multiplicity of its labels.

        What it says of itself stays. Whatever reads structures after this, be it an engine, a
        model, or who opens a dataset, reads the same of them.
        """
        return with_electrons(atoms, self.electrons.get(geometry, {}))

    def electrons_of_frames(self, geometry: int | None = None) -> Mapping[str, float]:
        """Return charge and multiplicity of frames of a dataset that say nothing of them.

        Args:
            geometry: Whose they are; None: of any, so that it is what all geometries share.
        """
        if not self.electrons:
            return {}
        if geometry is not None:
            return self.electrons.get(geometry, {})
        first, *others = [self.electrons.get(i, {}) for i in range(len(self.geometry_files))]
        return {k: v for k, v in first.items() if all(one.get(k) == v for one in others)}

    def electrons_of_set(self, name: str) -> Mapping[str, float]:
        """Return the same of frames of a held-out set, by its name in `Misc.test_files`."""
        return self.electrons_of_frames(
            int(name) if isinstance(self.misc.test_dataset, dict) else None
        )

    def held_atoms(self, geometry: int) -> HeldAtoms:
        """Return which atoms of a start geometry do not move, or in some directions only.

        Raises:
            StructureError: It cannot be read.
        """
        if self.held is not None:
            return self.held.get(geometry, NOTHING_HELD)
        return read_file(self.geometry_files[geometry], self.misc.electron_names).held

    @property
    def member_seeds(self) -> dict[str, int]:
        """The members' own seeds by tag.

        They are those of `seeds_tags_dict`; without it they are drawn from `GENERAL.seed`, and the
        tags are `{name_exp}-{seed}`.
        """
        if self.al.seeds_tags_dict is not None:
            return dict(self.al.seeds_tags_dict)
        general = self.model.GENERAL
        rng = np.random.default_rng(general.seed)
        drawn = rng.choice(1000, size=self.idg.ensemble_size, replace=False)
        return {f"{general.name_exp}-{seed}": int(seed) for seed in drawn}
