"""Models and datasets in the original's layout: `data/`, `model/`, `results/`."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from aimspax_core.campaign import final_sets
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import CampaignError
from aimspax_core.labels.dataset import DataKeys, labelled, write
from aimspax_core.labels.store import LabelStore
from aimspax_core.report.error_tables import columns, errors_text
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import replacing, write_text
from aimspax_core.settings.settings import Settings
from aimspax_core.uncertainty.chosen import Chosen


@dataclass(frozen=True)
class Late:
    """Energies that are solved for as a model is published; see `settling`.

    Attributes:
        constants: Of the model, in place of those in its checkpoint.
        elements: Atomic numbers that it knows.
        errors: Its validation errors with them.
    """

    constants: Any
    elements: tuple[int, ...]
    errors: Errors


@dataclass(frozen=True)
class Holdings:
    """What a member has: its checkpoints, and the label keys of its sets.

    Attributes:
        tag: Name of the member.
        checkpoint: Its last checkpoint before convergence.
        converged: The checkpoint of its convergence, or None.
        initial_training: Keys of its initial training set.
        initial_validation: Keys of its initial validation set.
        training: Keys of the training set that the published weights have seen.
        validation: Keys of the validation set that they were chosen by.
        errors: Validation errors of the published weights, or None.
        on_all: Whether it has converged on the sets of all members.
        offsets: What is left of a constant in its energies (eV/atom), by formula, where atomic
            energies were given.
        assessed: Errors of the published weights on the held-out set, or None.
        assessed_by: The same by geometry, where each has a file of its own.
        for_analysis: How many of its training set were labelled for analysis only.
        late: By checkpoint, what was solved for after its training.
    """

    tag: str
    checkpoint: Path
    converged: Path | None
    initial_training: tuple[str, ...]
    initial_validation: tuple[str, ...]
    training: tuple[str, ...]
    validation: tuple[str, ...]
    errors: Errors | None
    on_all: bool = False
    for_analysis: int = 0
    offsets: dict[str, float] = field(default_factory=dict)
    assessed: Errors | None = None
    assessed_by: dict[str, Errors] = field(default_factory=dict)
    late: dict[Path, Late] = field(default_factory=dict)

    @property
    def published(self) -> Path:
        """The checkpoint whose weights are published."""
        return self.converged or self.checkpoint

    @property
    def explored_with(self) -> Path | None:
        """Its checkpoint as active learning ended, if the published weights are others."""
        return self.checkpoint if self.converged not in (None, self.checkpoint) else None


def holdings(run: RunDir, state: CampaignState) -> tuple[Holdings, ...]:
    """Return what each member of a campaign has now."""
    found = []
    for member in state.members.values():
        began = member.converging is not None and member.converge_epochs > 0
        last = member.checkpoint or (member.converging if began else None)
        if last is None:
            raise CampaignError(f"{member.tag} has not been trained yet")
        sets = final_sets.seen(state, member.tag)
        published = member.converging if began else last
        assessed = member.assessed_at == published
        found.append(
            Holdings(
                tag=member.tag,
                checkpoint=run.checkpoint(member.tag, last),
                converged=run.checkpoint(member.tag, str(member.converging)) if began else None,
                initial_training=member.training,
                initial_validation=member.validation,
                training=sets.training,
                validation=sets.validation,
                errors=member.best if began else member.errors,
                on_all=began and state.converging_on != "own",
                for_analysis=len(sets.analysis),
                offsets=member.offsets,
                assessed=member.assessed if assessed else None,
                assessed_by=member.assessed_by if assessed else {},
            )
        )
    return tuple(found)


def publish_initial(run: RunDir, settings: Settings, members: Sequence[Holdings]) -> None:
    """Write `data/initial/`, the members' seeds and `model/` after the initial dataset."""
    store, names = LabelStore(run.labels), DataKeys.of(settings.misc)
    folder = run.data / "initial"
    for kind, name in (("training", "train"), ("validation", "valid")):
        together: list[Atoms] = []
        for member in members:
            keys = member.initial_training if kind == "training" else member.initial_validation
            structures = _structures(store, keys, names)
            together += structures
            write(folder / kind / f"initial_{name}_set_{member.tag}.xyz", structures)
        write(folder / kind / f"combined_initial_{name}_set.xyz", together)
    _seeds(run.data / "seeds_tags_dict.npz", settings, members)
    _models(settings, members, [run.models])


def publish_final(
    run: RunDir, settings: Settings, members: Sequence[Holdings], adopted: bool = False
) -> tuple[str, ...]:
    """Write `data/final/`, `model/` and `results/` at the end of a campaign.

    A converged member is published as it was in the best epoch of its convergence, the others as
    they ended active learning; `results/README.txt` says which is which. Where only some have
    converged, `results/last_ensemble/` has them as they ended active learning, too: their spread
    is that of an ensemble only with the others. Models that the campaign began from stay as they
    are in `model/`.

    Returns:
        The tags of those in `results/last_ensemble/`.
    """
    store, names = LabelStore(run.labels), DataKeys.of(settings.misc)
    there: set[str] = set()
    for member in members:
        for kind, name in (("training", "train"), ("validation", "valid")):
            keys = member.training if kind == "training" else member.validation
            structures = _structures(store, keys, names)
            there.update(name for atoms in structures for name in (*atoms.info, *atoms.arrays))
            file = f"{name}_set_{member.tag}.xyz"
            write(run.data / "final" / kind / file, structures)
            write(run.results / file, structures)
    _models(settings, members, [run.results] if adopted else [run.models, run.results])
    last = _last_ensemble(run, settings, members)
    Chosen(settings.al.uncertainty_type, settings.al.uncertainty_of).write(run.results)
    table = settings.model.MISC.error_table
    write_text(run.results / "errors.csv", _table(members, table))
    write_text(run.results / "README.txt", _readme(settings, members, there, bool(last)))
    return last


def _structures(store: LabelStore, keys: Iterable[str], names: DataKeys) -> list[Atoms]:
    found = []
    for key in keys:
        stored = store.get(key)
        if stored is None:
            raise CampaignError(f"label {key} is gone from {store.path(key).parent.parent}")
        found.append(labelled(stored, names))
    return found


def _seeds(path: Path, settings: Settings, members: Sequence[Holdings]) -> None:
    """Write each member's seed under its tag, as the original does."""
    seeds = settings.member_seeds
    arrays = {member.tag: np.array(seeds[member.tag]) for member in members}
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _models(settings: Settings, members: Sequence[Holdings], folders: Sequence[Path]) -> None:
    from aimspax_core.model.family import family_of
    from aimspax_core.model.trained import trained_model

    family, model = family_of(settings.model), None
    for member in members:
        late = member.late.get(member.published)
        constants = None if late is None else late.constants
        model = trained_model(member.published, settings.model, model, constants)
        given = family.copy_with(model, dict(model.named_parameters()), settings.model)
        for folder in folders:
            family.save(given, folder / f"{member.tag}.model")


def _last_ensemble(run: RunDir, settings: Settings, members: Sequence[Holdings]) -> tuple[str, ...]:
    """Write the models of the last ensemble that are not beside; remove those of before."""
    apart = [member for member in members if member.explored_with is not None]
    if len(apart) == len(members):
        apart = []
    for stale in run.last_ensemble.glob("*.model"):
        stale.unlink()
    _models(settings, [replace(one, converged=None) for one in apart], [run.last_ensemble])
    return tuple(one.tag for one in apart)


def _table(members: Sequence[Holdings], table: str) -> str:
    """Validation errors as CSV, in the units that the headings name."""
    shown = columns(table, [member.errors for member in members])
    names = list(dict.fromkeys(name for member in members for name in member.assessed_by))
    held_out = columns(table, [member.assessed for member in members])
    held_out = held_out if any(member.assessed for member in members) else ()
    text = io.StringIO()
    rows = csv.writer(text)
    more = [f"test_{c.key}" for c in held_out]
    more += [f"test_{name}_{c.key}" for name in names for c in held_out]
    rows.writerow(["member", "state", "training", "validation", *(c.key for c in shown), *more])
    for member in members:
        values = [column.value(member.errors) for column in shown]
        for assessed in (member.assessed, *(member.assessed_by.get(name) for name in names)):
            values += [column.value(assessed) for column in held_out]
        rows.writerow(
            [member.tag, _condition(member), len(member.training), len(member.validation)]
            + ["" if value is None else f"{value:.3f}" for value in values]
        )
    return text.getvalue()


def _condition(member: Holdings) -> str:
    return "converged" if member.converged else "as active learning ended"


def _seen(member: Holdings) -> str:
    """Return in words what a member has converged on."""
    if not member.on_all:
        return "the final data"
    of = (
        f", {member.for_analysis} of them labelled for analysis only" if member.for_analysis else ""
    )
    sizes = f"{len(member.training)} + {len(member.validation)}"
    return f"all members' points ({sizes}{of})"


_UNDER = 25 * " "  # the second column of README.txt


def _readme(
    settings: Settings, members: Sequence[Holdings], there: Collection[str], last: bool
) -> str:
    names = DataKeys.of(settings.misc)
    quantities = [f"{names.energy} in eV", f"{names.forces} in eV/Å"]
    more = {
        names.stress: "in eV/Å^3",
        names.dipole: "in e·Å about the origin",
        names.hirshfeld_ratios: "over the volume of the free atom",
    }
    quantities += [f"{name} {unit}" for name, unit in more.items() if name in there]
    lines = [
        "Models and data of a finished campaign.",
        "",
        "NAME.model               a model; see below how ASE loads it",
        *textwrap.wrap(
            settings.model.family.calculator_note,
            98,
            initial_indent=_UNDER,
            subsequent_indent=_UNDER,
        ),
        "train_set_NAME.xyz       what it was trained on (extended XYZ with",
        *textwrap.wrap(
            f"{', '.join(quantities)})", 98, initial_indent=_UNDER, subsequent_indent=_UNDER
        ),
        "valid_set_NAME.xyz       what it was validated on",
        "errors.csv               errors of each model on its valid_set_NAME.xyz"
        + (", and (test_) on the held-out set" if any(m.assessed for m in members) else ""),
        "learning_curve.png       force error against labels and epochs",
        "calibration.png          true error against uncertainty, where labels asked for told it",
        "uncertainty.json         which measure of uncertainty the campaign had, of which atoms",
        "calibration.json         the errors to be expected of the models, by labels that none was",
        "                         trained on (if there are five)",
    ]
    if last:
        lines.append("last_ensemble/           what has converged, as active learning ended")
    if settings.idg.analysis or settings.al.analysis:
        lines.append("../analysis/             errors against uncertainties, and losses, as arrays")
    if settings.idg.save_trajectories or settings.al.save_trajectories:
        lines.append("../trajectories/         the MD, frame by frame")
    lines += ["", *_electrons_lines(settings)]
    lines += [*_one_model_lines(settings, members), *_calculator_lines(settings, members)]
    why = " (converge_best: only the best one is)" if any(m.converged for m in members) else ""
    for member in members:
        what = (
            f"converged on {_seen(member)}; the weights of its best epoch"
            if member.converged
            else f"as active learning ended (averaged weights); not converged{why}"
        )
        errors = errors_text(
            settings.model.MISC.error_table, [member.errors] if member.errors else []
        )
        lines.append(f"{member.tag}.model: {what}{', ' if errors else ''}{errors}")
        if member.assessed is not None:
            held_out = errors_text(settings.model.MISC.error_table, [member.assessed])
            lines.append(f"  on the held-out set: {held_out}")
        if member.offsets:
            lines.append(_offsets_line(member.offsets))
    return "\n".join(lines) + "\n"


def _offsets_line(offsets: dict[str, float]) -> str:
    """Return the constants that are left in the energies, the largest first."""
    most = sorted(offsets.items(), key=lambda one: -abs(one[1]))
    shown = ", ".join(f"{formula} {1000 * energy:+.1f}" for formula, energy in most[:8])
    more = f" and {len(most) - 8} other formulas" if len(most) > 8 else ""
    return (
        "  its energies lack a constant (meV/atom, mean of label - model in training): "
        f"{shown}{more}; atomic energies were given, and stay (ARCHITECTURE.solve_energies)"
    )


def _electrons_lines(settings: Settings) -> list[str]:
    """Return how a structure says the charge and multiplicity that REFERENCE gives all labels."""
    told = settings.electrons_of_frames()
    if not told:
        return []
    charge, spin = told.get("charge", 0.0), told.get("spin", 1.0)
    own = f"charge={charge:g}, spin={spin:g}, total_spin={(spin - 1) / 2:g}"
    return [
        f"Labels are of charge {charge:g} and multiplicity {spin:g}; calculators learn it from the",
        "structure (total_spin: S, for the calculator of so3krates-torch):",
        f"  atoms.info.update({own})",
        "",
    ]


def _one_model_lines(settings: Settings, members: Sequence[Holdings]) -> list[str]:
    """Return how one model, a converged one if there is any, is loaded in ASE."""
    from aimspax_core.model.family import family_of

    tag = next((one.tag for one in members if one.converged), members[0].tag)
    lines = family_of(settings.model).loaded_by(settings.model, f"results/{tag}.model")
    return ["One of them, as the calculator of ASE's atoms:", *(f"  {line}" for line in lines), ""]


def _calculator_lines(settings: Settings, members: Sequence[Holdings]) -> list[str]:
    """Return how all models are loaded at once, and what of them then predicts."""
    heads = settings.model.heads
    if len(members) < 2 and heads == 1:
        return []
    converged = sum(member.converged is not None for member in members)
    if heads > 1:
        whose = f"Energy, forces and stress are the mean of {heads} heads, the spread is theirs."
    elif converged in (0, len(members)):
        whose = "Energy, forces and stress are the mean of all models, the spread is theirs."
    else:
        which = "the converged model's" if converged == 1 else "the converged models' mean"
        whose = f"Energy, forces and stress are {which}, the spread is the last ensemble's."
    return [
        "All at once, for ASE, with their spread (forces_sd, energy_sd, uncertainty) and, if there",
        "is calibration.json, the error to be expected (expected_error, forces_expected_error):",
        "  from aimspax_core.evaluation.calculator import CommitteeCalculator",
        '  atoms.calc = CommitteeCalculator("results")',
        whose,
        "",
    ]
