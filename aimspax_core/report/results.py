"""Models and datasets in the original's layout: `data/`, `model/`, `results/`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from aimspax_core.campaign.labels import LabelStore
from aimspax_core.campaign.state import CampaignState, Errors
from aimspax_core.dataset import labelled, write
from aimspax_core.errors import CampaignError
from aimspax_core.files import write_text
from aimspax_core.rundir import RunDir
from aimspax_core.settings.load import Settings


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
        if member.checkpoint is None:
            raise CampaignError(f"{member.tag} has not been trained yet")
        training, validation = state.dataset(member.tag)
        began = member.converging is not None and member.converge_epochs > 0
        found.append(
            Holdings(
                tag=member.tag,
                checkpoint=run.checkpoint(member.tag, member.checkpoint),
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
    """Write `data/initial/` and `model/` at the end of the initial dataset generation."""
    store = LabelStore(run.labels)
    folder = run.data / "initial"
    for kind, name in (("training", "train"), ("validation", "valid")):
        together: list[Atoms] = []
        for member in members:
            keys = member.initial_training if kind == "training" else member.initial_validation
            structures = _structures(store, keys)
            together += structures
            write(folder / kind / f"initial_{name}_set_{member.tag}.xyz", structures)
        write(folder / kind / f"combined_initial_{name}_set.xyz", together)
    _models(settings, members, [run.models])


def publish_final(run: RunDir, settings: Settings, members: Sequence[Holdings]) -> None:
    """Write `data/final/`, `model/` and `results/` at the end of a campaign.

    A converged member is published as it was in the best epoch of its convergence, the others as
    they ended active learning; `results/README.txt` says which is which.
    """
    store = LabelStore(run.labels)
    for member in members:
        for kind, name in (("training", "train"), ("validation", "valid")):
            structures = _structures(
                store, member.training if kind == "training" else member.validation
            )
            file = f"{name}_set_{member.tag}.xyz"
            write(run.data / "final" / kind / file, structures)
            write(run.results / file, structures)
    _models(settings, members, [run.models, run.results])
    write_text(run.results / "errors.csv", _table(members))
    write_text(run.results / "README.txt", _readme(members))


def _structures(store: LabelStore, keys: Iterable[str]) -> list[Atoms]:
    found = []
    for key in keys:
        stored = store.get(key)
        if stored is None:
            raise CampaignError(f"label {key} is gone from {store.path(key).parent.parent}")
        found.append(labelled(stored))
    return found


def _models(settings: Settings, members: Sequence[Holdings], folders: Sequence[Path]) -> None:
    from aimspax_core.model.mace import save_model
    from aimspax_core.model.training import Member

    for member in members:
        trained = Member.load(member.converged or member.checkpoint, settings.model)
        model = trained.best_model() if trained.best_metrics else trained.averaged_model()
        for folder in folders:
            save_model(model, folder / f"{member.tag}.model")


def _table(members: Sequence[Holdings]) -> str:
    """Validation errors as CSV: energies in meV/atom, forces in meV/Å."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(
        ["member", "state", "training", "validation", "mae_f_meV_per_A", "rmse_f_meV_per_A",
         "mae_e_meV_per_atom", "rmse_e_meV_per_atom"]
    )  # fmt: skip
    for member in members:
        errors = member.errors
        values = (
            (errors.mae_f, errors.rmse_f, errors.mae_e_per_atom, errors.rmse_e_per_atom)
            if errors
            else ()
        )
        rows.writerow(
            [member.tag, _condition(member), len(member.training), len(member.validation)]
            + [f"{1000 * value:.3f}" for value in values]
        )
    return text.getvalue()


def _condition(member: Holdings) -> str:
    return "converged" if member.converged else "as active learning ended"


def _readme(members: Sequence[Holdings]) -> str:
    lines = [
        "Models and data of a finished campaign.",
        "",
        "NAME.model               loads in mace.calculators.MACECalculator",
        "train_set_NAME.xyz       its training set   (extended XYZ: REF_energy in eV,",
        "valid_set_NAME.xyz       its validation set  REF_forces in eV/Å, REF_stress in eV/Å^3)",
        "errors.csv               errors on each member's own validation set",
        "learning_curve.png       force error against labels and epochs",
        "",
    ]
    for member in members:
        what = (
            "converged on the final data; the weights of its best epoch"
            if member.converged
            else "as active learning ended (averaged weights); not converged"
        )
        error = f", force MAE {1000 * member.errors.mae_f:.1f} meV/Å" if member.errors else ""
        lines.append(f"{member.tag}.model: {what}{error}")
    return "\n".join(lines) + "\n"
