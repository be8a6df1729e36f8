"""Models and datasets in the original's layout: `data/`, `model/`, `results/`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import CampaignError
from aimspax_core.labels.dataset import DataKeys, labelled, write
from aimspax_core.labels.store import LabelStore
from aimspax_core.report.error_tables import columns, errors_text
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import replacing, write_text
from aimspax_core.settings.settings import Settings


@dataclass(frozen=True)
class Holdings:
    """What a member has: its checkpoints, and the label keys of its sets.

    Attributes:
        tag: Name of the member.
        checkpoint: Its last checkpoint before convergence.
        converged: The checkpoint of its convergence, or None.
        initial_training: Keys of its initial training set.
        initial_validation: Keys of its initial validation set.
        training: Keys of its whole training set.
        validation: Keys of its whole validation set.
        errors: Validation errors of the published weights, or None.
    """

    tag: str
    checkpoint: Path
    converged: Path | None
    initial_training: tuple[str, ...]
    initial_validation: tuple[str, ...]
    training: tuple[str, ...]
    validation: tuple[str, ...]
    errors: Errors | None


def holdings(run: RunDir, state: CampaignState) -> tuple[Holdings, ...]:
    """Return what each member of a campaign has now."""
    found = []
    for member in state.members.values():
        began = member.converging is not None and member.converge_epochs > 0
        last = member.checkpoint or (member.converging if began else None)
        if last is None:
            raise CampaignError(f"{member.tag} has not been trained yet")
        training, validation = state.dataset(member.tag)
        found.append(
            Holdings(
                tag=member.tag,
                checkpoint=run.checkpoint(member.tag, last),
                converged=run.checkpoint(member.tag, str(member.converging)) if began else None,
                initial_training=member.training,
                initial_validation=member.validation,
                training=training,
                validation=validation,
                errors=member.best if began else member.errors,
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
) -> None:
    """Write `data/final/`, `model/` and `results/` at the end of a campaign.

    A converged member is published as it was in the best epoch of its convergence, the others as
    they ended active learning; `results/README.txt` says which is which. Models that the campaign
    began from stay as they are in `model/`.
    """
    store, names = LabelStore(run.labels), DataKeys.of(settings.misc)
    stress = False
    for member in members:
        for kind, name in (("training", "train"), ("validation", "valid")):
            keys = member.training if kind == "training" else member.validation
            structures = _structures(store, keys, names)
            stress = stress or any(names.stress in atoms.info for atoms in structures)
            file = f"{name}_set_{member.tag}.xyz"
            write(run.data / "final" / kind / file, structures)
            write(run.results / file, structures)
    _models(settings, members, [run.results] if adopted else [run.models, run.results])
    table = settings.model.MISC.error_table
    write_text(run.results / "errors.csv", _table(members, table))
    write_text(run.results / "README.txt", _readme(settings, members, stress))


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
        model = trained_model(member.converged or member.checkpoint, settings.model, model)
        given = family.copy_with(model, dict(model.named_parameters()), settings.model)
        for folder in folders:
            family.save(given, folder / f"{member.tag}.model")


def _table(members: Sequence[Holdings], table: str) -> str:
    """Validation errors as CSV, in the units that the headings name."""
    shown = columns(table, [member.errors for member in members])
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["member", "state", "training", "validation", *(c.key for c in shown)])
    for member in members:
        values = [column.value(member.errors) for column in shown]
        rows.writerow(
            [member.tag, _condition(member), len(member.training), len(member.validation)]
            + ["" if value is None else f"{value:.3f}" for value in values]
        )
    return text.getvalue()


def _condition(member: Holdings) -> str:
    return "converged" if member.converged else "as active learning ended"


def _readme(settings: Settings, members: Sequence[Holdings], stress: bool) -> str:
    from aimspax_core.model.family import family_of

    names = DataKeys.of(settings.misc)
    quantities = [f"{names.energy} in eV", f"{names.forces} in eV/Å"]
    quantities += [f"{names.stress} in eV/Å^3"] if stress else []
    lines = [
        "Models and data of a finished campaign.",
        "",
        f"NAME.model               loads in {family_of(settings.model).loaded_by}",
        "train_set_NAME.xyz       its training set (extended XYZ with",
        f"                         {', '.join(quantities)})",
        "valid_set_NAME.xyz       its validation set",
        "errors.csv               errors on each member's own validation set",
        "learning_curve.png       force error against labels and epochs",
    ]
    if settings.idg.analysis or settings.al.analysis:
        lines.append("../analysis/             errors against uncertainties, and losses, as arrays")
    if settings.idg.save_trajectories or settings.al.save_trajectories:
        lines.append("../trajectories/         the MD, frame by frame")
    lines.append("")
    for member in members:
        what = (
            "converged on the final data; the weights of its best epoch"
            if member.converged
            else "as active learning ended (averaged weights); not converged"
        )
        errors = errors_text(
            settings.model.MISC.error_table, [member.errors] if member.errors else []
        )
        lines.append(f"{member.tag}.model: {what}{', ' if errors else ''}{errors}")
    return "\n".join(lines) + "\n"
