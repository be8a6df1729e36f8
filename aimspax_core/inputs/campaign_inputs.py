"""A run directory, read and found fit to run: settings, geometries, and how they go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ase import Atoms

from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState
from aimspax_core.devices import missing_gpu
from aimspax_core.errors import CampaignError, SettingsError, StructureError
from aimspax_core.inputs.begun_geometries import (
    begun_otherwise,
    begun_without,
    held_in_campaign,
    held_otherwise,
    start_geometries,
)
from aimspax_core.inputs.electrons_of_models import notes_on_electrons, told_to_models
from aimspax_core.inputs.geometry_findings import (
    in_fields,
    lone_atoms,
    notes_of,
)
from aimspax_core.inputs.given_models import (
    GivenModels,
    find_given_models,
    require_fit,
    seeds_of,
)
from aimspax_core.inputs.model_elements import notes_on_elements
from aimspax_core.inputs.parameters import in_force
from aimspax_core.inputs.pretrained import (
    notes_on_fine_tuning,
    refuse_beside_given_models,
    with_its_architecture,
)
from aimspax_core.inputs.replayed_data import notes_on_replay
from aimspax_core.inputs.what_is_wrong import (
    engine_findings,
    missing_device,
    refuse,
    with_further,
)
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.geometries.files import Geometry
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.which_files import settings_files
from aimspax_core.settings.settings import Settings

Part = Literal["all", "initial", "active", "any"]
"""What is asked for: a whole campaign, its initial dataset, active learning from there, or
whatever the files have."""


@dataclass(frozen=True)
class Inputs:
    """What the user has given.

    Attributes:
        settings: The settings in force.
        run: Where everything lies, or will lie.
        geometries: The start geometries.
        seeds: Each member's own seed, by tag, in order.
        given: Members and datasets that the campaign begins from, if it does.
        state: The campaign that was begun here; None if there is none.
        overrides: What was given beside the files.
        superseded: Keys that were set by hand in the campaign, and changed elsewhere since.
    """

    settings: Settings
    run: RunDir
    geometries: list[Atoms]
    seeds: dict[str, int]
    given: GivenModels | None = None
    state: CampaignState | None = None
    overrides: Mapping[str, Any] | None = None
    superseded: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        directory: Path,
        overrides: Mapping[str, Any] | None = None,
        part: Part = "all",
        anew: bool = False,
        moves: bool = True,
    ) -> Inputs:
        """Read a run directory.

        Args:
            directory: The run directory.
            overrides: Values that replace those of the files, and names of other files; see
                `settings.load.load` and `settings.reading.which_files`.
            part: What is going to run. `active` without a campaign begins from the members and
                datasets that are there, and so does `all` without INITIAL_DATASET_GENERATION.
            anew: Whether the campaign that was begun there does not count: another one is to begin,
                however damaged that one is.
            moves: Whether MD is to start from the geometries; else it does not matter what of them
                no MD and no model can keep.

        Raises:
            SettingsError: There are mistakes in the settings; the text lists all of them.
            StructureError: A geometry cannot be read, or the gate would keep it back.
            CampaignError: `active` was asked for, and the initial dataset is not done yet; or the
                campaign that was begun is too damaged to go on.
        """
        files = settings_files(Path(directory), overrides)
        try:
            settings = load(directory, *files, missing_device=missing_gpu)
        except SettingsError as error:
            raise with_further(error, directory, files) from error
        if part != "any":
            settings.require(part)
        run = RunDir.of(settings)
        if run.output.exists() and not run.output.is_dir():
            raise SettingsError(f"MISC.output_dir: found a file, {run.output}; allowed: a folder")
        _store_stays(settings, run)
        state = None if anew else load_journal(run)[1]
        settings, superseded = in_force(directory, overrides, settings, state)
        settings = with_its_architecture(settings, state)
        read = _read_geometries(settings, run, state)
        settings, geometries = _of_campaign(settings, run, read, state)
        found = list(engine_findings(settings, geometries))
        wrong = [line for finding, line in found if not finding.note]
        refuse(settings, read, geometries, wrong, starts=state is None and moves)
        seeds, given, adopts = _members(settings, run, part, state)
        if adopts:
            refuse_beside_given_models(settings)
        if given is not None:
            require_fit(given, settings, geometries)
        notes = [
            *_notes_on_geometries(settings, read, begun=state is not None),
            *lone_atoms(settings, geometries),
            *_notes(settings, geometries, tuple(seeds), adopts),
            *_models_notes(settings),
            *notes_on_fine_tuning(settings, begun=state is not None),
            *notes_on_replay(settings, geometries, begun=state is not None),
            *notes_on_electrons(settings, geometries, frames=given is not None),
            *notes_on_elements(
                settings.model,
                [Pretrained(str(path)) for path in given.models.values()] if given else [],
            ),
            *(line for finding, line in found if finding.note),
        ]
        settings = replace(settings, notes=(*settings.notes, *notes))
        return cls(settings, run, geometries, seeds, given, state, overrides, superseded)

    @classmethod
    def of_campaign(cls, directory: Path, overrides: Mapping[str, Any] | None = None) -> Inputs:
        """Read what a campaign was begun with, to look at it only: it need not run on this machine.

        Args:
            directory: The run directory.
            overrides: As for `read`.

        Raises:
            SettingsError: There are mistakes in the settings.
            StructureError: A geometry cannot be read.
            CampaignError: There is no campaign, or it is too damaged.
        """
        settings = load(directory, *settings_files(Path(directory), overrides))
        run = RunDir.of(settings)
        state = load_journal(run)[1]
        if state is None:
            raise CampaignError(f"{run.output}: no campaign has been started here")
        settings, superseded = in_force(directory, overrides, settings, state)
        settings = with_its_architecture(settings, state)
        read = start_geometries(settings, run, state)
        settings, geometries = _of_campaign(settings, run, read, state)
        seeds = seeds_of(state.rules.tags, settings, run)
        return cls(settings, run, geometries, seeds, None, state, overrides, superseded)

    def with_set_values(self, state: CampaignState) -> Inputs:
        """Return the inputs with what people have set by hand until a state of the campaign."""
        if self.state is None or self.state.set_values == state.set_values:
            return self
        directory = self.settings.directory
        base = load(directory, *settings_files(directory, self.overrides))
        settings, superseded = in_force(directory, self.overrides, base, state)
        settings = with_its_architecture(settings, state)
        old = self.settings
        settings = replace(
            settings,
            notes=old.notes,
            begun_without=old.begun_without,
            held=old.held,
            electrons=old.electrons,
        )
        return replace(self, settings=settings, superseded=superseded, state=state)

    @property
    def rules(self) -> Rules:
        """The numbers that the rules use."""
        begun = None if self.state is None else self.state.rules
        return Rules.of(self.settings, tuple(self.seeds), len(self.geometries), begun)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of all geometries, sorted."""
        return tuple(sorted({int(z) for atoms in self.geometries for z in atoms.numbers}))


def _of_campaign(
    settings: Settings, run: RunDir, read: Sequence[Geometry], state: CampaignState | None
) -> tuple[Settings, list[Atoms]]:
    """Return settings that know how a campaign takes its geometries, and these."""
    settings = replace(
        settings,
        begun_without=begun_without(run, read, state),
        held=held_in_campaign(run, read, state),
        electrons=told_to_models(settings, state),
    )
    taken = (one.before if i in settings.begun_without else one.atoms for i, one in enumerate(read))
    return settings, [settings.told(atoms, i) for i, atoms in enumerate(taken)]


def campaign_folders(run: RunDir, made_members: bool = True) -> list[Path]:
    """Return the folders that are a campaign's own, and that `--fresh` moves with it.

    A setting may name one folder twice, or one that holds the user's own files: only what lies
    inside the output counts.

    Args:
        run: Where everything lies.
        made_members: Whether members and datasets are its own; else it began from them.
    """
    folders = [
        run.state, run.results, run.losses, run.logs, run.checkpoints_dir, run.analysis,
        run.trajectories, run.refused,
    ]  # fmt: skip
    if made_members:
        folders += [run.data, run.models]
    inside = (f.resolve() for f in folders if run.output.resolve() in f.resolve().parents)
    return list(dict.fromkeys(inside))


def _store_stays(settings: Settings, run: RunDir) -> None:
    """Refuse a label store that would be moved away with a campaign.

    Raises:
        SettingsError: It is, or lies in, one of the campaign's own folders.
    """
    for folder in campaign_folders(run):
        if run.store is not None and run.store.is_relative_to(folder):
            raise SettingsError(
                f"MISC.label_store: found '{settings.misc.label_store}', in {folder}, which --fresh"
                " moves away; allowed: a folder elsewhere, or no key for the campaign's own store"
            )


def _members(
    settings: Settings, run: RunDir, part: Part, state: CampaignState | None
) -> tuple[dict[str, int], GivenModels | None, bool]:
    """Return the members' seeds by tag, the files to adopt, and whether they are adopted ones.

    Raises:
        CampaignError: There is no initial dataset to explore from.
        SettingsError: There is nothing to begin from.
    """
    if state is None:
        if part != "active" and settings.has_initial:
            return settings.member_seeds, None, False
        found = find_given_models(settings, run)
        return seeds_of(found.models, settings, run), found, True
    if state.adopted:
        seeds = seeds_of(state.rules.tags, settings, run)
        if state.published_initial:  # it is the campaign's by now, wherever it came from
            return seeds, None, True
        found = find_given_models(settings, run)
        if tuple(found.models) != state.rules.tags:
            raise SettingsError(
                f"{run.models} holds {', '.join(found.models)}; the campaign was begun with "
                f"{', '.join(state.rules.tags)}. Restore them, or begin anew with --fresh."
            )
        return seeds, found, True
    if part == "active" and not state.published_initial:
        raise CampaignError(
            f"{run.output}: the initial dataset is not done yet; "
            "`aimspax initial-dataset` makes it, `aimspax run` does both"
        )
    return settings.member_seeds, None, False


def _notes_on_geometries(
    settings: Settings, read: Sequence[Geometry], begun: bool
) -> Iterator[str]:
    yield from notes_of(settings, read)
    yield from in_fields(settings, read)
    yield from begun_otherwise(settings, read)
    if begun:
        yield from held_otherwise(settings, read)


def _read_geometries(
    settings: Settings, run: RunDir, state: CampaignState | None
) -> list[Geometry]:
    """Read the start geometries.

    Raises:
        StructureError: One cannot be read; the text says what else is wrong, as far as it can be
            known without.
    """
    try:
        return start_geometries(settings, run, state)
    except StructureError as error:
        raise StructureError("\n".join((str(error), *missing_device(settings)))) from error


def _notes(
    settings: Settings, geometries: list[Atoms], tags: tuple[str, ...], adopts: bool
) -> Iterator[str]:
    """What is done otherwise than the files say."""
    al, needed, name = settings.al, len(geometries), settings.project_places.file
    if al.num_trajectories < needed:
        yield (
            f"{name}: ACTIVE_LEARNING.num_trajectories is {al.num_trajectories}; there are "
            f"{needed} geometries, so {needed} trajectories are run"
        )
    if adopts and "ensemble_size" in al.model_fields_set and al.ensemble_size != len(tags):
        yield (
            f"{name}: ACTIVE_LEARNING.ensemble_size is {al.ensemble_size}; there are "
            f"{len(tags)} models, which hold"
        )
    given = {"initial_train_dataset", "initial_valid_dataset", "extend_existing_final_ds"}
    for key in sorted(given & al.model_fields_set):
        if settings.has_initial and not adopts and getattr(al, key):
            yield (
                f"{name}: ACTIVE_LEARNING.{key} has no effect: the members begin from "
                "INITIAL_DATASET_GENERATION (`aimspax active-learning` begins from what is given)"
            )


def _models_notes(settings: Settings) -> Iterator[str]:
    """Yield what the models' family says of how they are computed."""
    for note in settings.model.family.notes(settings.model):
        yield f"{settings.model_places.file}: {note}"
