"""Models are loaded and evaluated again: they must have the errors that the journal says."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aimspax_core.errors import AimspaxError, ModelError
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.model import ModelSettings
from aimspax_core.verification.findings import Kind, Report
from aimspax_core.verification.label_files import Labels, StoredLabel
from aimspax_core.verification.ledger import Ledger
from aimspax_core.verification.state_files import checkpoints

if TYPE_CHECKING:
    import torch

    from aimspax_core.model.family import Family

ROUNDED = 2e-3
"""How much errors may differ by, as a part of them: sums are formed in another order."""

ROUNDED_FORCE = 2e-6
"""And besides, in eV/Å: single precision."""

ROUNDED_ENERGY = 5e-7
"""And besides, as a part of the energies themselves, which single precision rounds."""

Expected = tuple[dict[str, Any] | None, tuple[str, ...] | None]
"""Errors of a model as the journal has them, and the keys of the labels that they are of."""


def check_exist(run: RunDir, ledger: Ledger, report: Report) -> None:
    """Find checkpoints and published models that are missing."""
    for _, path in checkpoints(run, ledger):
        if not path.is_file():
            report.found(Kind.MISSING, path, "a member goes on from it, and it is not there")
    for path in published_models(run, ledger):
        if not path.is_file():
            report.found(Kind.MISSING, path, "it was published, and is not there")


def check(
    run: RunDir, ledger: Ledger, labels: Labels, settings: ModelSettings, report: Report
) -> None:
    """Load all checkpoints and published models, and evaluate them on the CPU.

    Args:
        run: The run directory.
        ledger: What the journal adds up to.
        labels: What the errors are of.
        settings: Of the models.
        report: Takes the findings.
    """
    from aimspax_core.model.family import load_any

    for path, expected in published_models(run, ledger).items():
        if not path.is_file():
            continue
        try:
            family, model = load_any(path)
        except (ModelError, OSError) as error:
            report.found(Kind.UNREADABLE, path, f"this model cannot be loaded: {error}")
            continue
        report.looked_at["models"] += 1
        _evaluate(path, family, model, expected, labels, report)
    for tag, path in checkpoints(run, ledger):
        if path.is_file():
            _checkpoint(path, tag, ledger, labels, settings, report)


def published_models(run: RunDir, ledger: Ledger) -> dict[Path, Expected]:
    """Return the models that were published, with the errors that they must have."""
    found: dict[Path, Expected] = {}
    for what, publication in ledger.published.items():
        folders = [] if ledger.adopted else [run.models]
        folders += [run.results] if what == "final" else []
        for tag, expected in publication.errors.items():
            found |= {folder / f"{tag}.model": expected for folder in folders}
        found |= {run.last_ensemble / f"{tag}.model": one for tag, one in publication.last.items()}
    if ledger.publishing:  # its files are being written anew
        return {}
    return found


def _checkpoint(
    path: Path, tag: str, ledger: Ledger, labels: Labels, settings: ModelSettings, report: Report
) -> None:
    import torch

    if not _seal_holds(path.read_bytes()):
        report.found(Kind.CHANGED, path, "its checksum is that of another content")
        return
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        owner, total = content["tag"], content["counters"]["total_epochs"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, TypeError) as error:
        what = f"this checkpoint cannot be read ({type(error).__name__})"
        report.found(Kind.UNREADABLE, path, what)
        return
    report.looked_at["checkpoints"] += 1
    member = ledger.members[tag]
    if owner != tag:
        report.found(Kind.STATE, path, f"it is a checkpoint of {owner}")
        return
    converging = path.stem == member.converging and path.stem != member.checkpoint
    unknown = member.all_epochs is None or ledger.adopted
    epochs = (member.all_epochs or 0) + (member.converge_epochs if converging else 0)
    if total != epochs and not unknown:
        what = f"it has been trained {total} epochs, by the journal {epochs}"
        report.found(Kind.COUNTER, path, what)
    expected = (
        (member.best, member.best_measured_on)
        if converging
        else (member.errors, member.measured_on)
    )
    _evaluate_checkpoint(path, expected, labels, settings, report)


def _seal_holds(content: bytes) -> bool:
    """Return whether a ZIP archive's comment, if it is a checksum, is that of all before it."""
    before, mark, checksum = content.rpartition(b"aimspax sha256 ")
    if not mark:
        return True  # of a release that wrote none, or torn, which torch will say
    own = hashlib.sha256(before[:-2] + b"\0\0").hexdigest()
    return own.encode() == checksum


def _evaluate_checkpoint(
    path: Path, expected: Expected, labels: Labels, settings: ModelSettings, report: Report
) -> None:
    from aimspax_core.model.family import family_of
    from aimspax_core.model.member import Member

    try:
        member = Member.load(path, settings)
        model = member.best_model() if member.best_metrics else member.averaged_model()
    except AimspaxError as error:
        report.found(Kind.UNREADABLE, path, f"no member can be made of it: {error}")
        return
    _evaluate(path, family_of(settings), model, expected, labels, report)


def _evaluate(
    path: Path,
    family: Family,
    model: torch.nn.Module,
    expected: Expected,
    labels: Labels,
    report: Report,
) -> None:
    """Hold a model's errors against those of the journal."""
    errors, keys = expected
    if errors is None or not keys:
        return
    found = [label for label in map(labels.get, keys) if label is not None]
    if len(found) < len(keys):  # which is a finding already
        return
    try:
        force, energy = errors_of(family, model, found)
    except ModelError as error:
        report.found(Kind.UNREADABLE, path, f"this model cannot be evaluated: {error}")
        return
    largest = max(abs(label.energy) for label in found)
    pairs = (
        ("force MAE", "eV/Å", force, errors["mae_f"], ROUNDED_FORCE),
        ("energy MAE", "eV", energy, errors["mae_e"], ROUNDED_ENERGY * largest),
    )
    for name, unit, now, then, rounded in pairs:
        if not abs(now - then) <= ROUNDED * abs(then) + rounded:
            what = f"its validation {name} is {now:.6g} {unit}, by the journal {then:.6g} {unit}"
            report.found(Kind.ERROR, path, what)


def errors_of(
    family: Family, model: torch.nn.Module, labels: Sequence[StoredLabel], batch: int = 16
) -> tuple[float, float]:
    """Return the mean absolute errors of a model: of force components (eV/Å), and energies (eV).

    Raises:
        ModelError: The model cannot be evaluated on these structures.
    """
    from aimspax_core.model.committee import Committee

    # By the family's own network, whatever else has computed the errors of the journal.
    committee = Committee(family.evaluator([model], "cpu", kernel="mace"))
    forces, energies = [], []
    for first in range(0, len(labels), batch):
        some = labels[first : first + batch]
        predicted = committee.evaluate([label.atoms for label in some])
        for label, one in zip(some, predicted, strict=True):
            forces.append(np.abs(one.forces - label.forces).ravel())
            energies.append(abs(one.energy - label.energy))
    return float(np.concatenate(forces).mean()), float(np.mean(energies))
