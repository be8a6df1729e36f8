"""Take over members and datasets that were there before the campaign."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from prefect import task

from aimspax_core.campaign.events import Adopted
from aimspax_core.errors import CampaignError, LabelError, ModelError, StructureError
from aimspax_core.inputs.given_models import GivenModels
from aimspax_core.labels.dataset import DataKeys, carried, read_labels
from aimspax_core.labels.gate import EnergyGate, check_label, check_structure
from aimspax_core.labels.label import BESIDE, Label
from aimspax_core.labels.store import LabelStore, label_key
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import digest, symbols_text

CHECKPOINT = "adopted"
"""Name of the checkpoint that an adopted member begins with."""


@dataclass(frozen=True)
class AdoptRequest:
    """What to take over.

    Attributes:
        action_id: The action that this carries out.
        run: The run directory.
        settings: The settings in force.
        given: The files.
        seeds: Each member's own seed, by tag.
    """

    action_id: str
    run: RunDir
    settings: Settings
    given: GivenModels
    seeds: dict[str, int]


@task(name="adopt", task_run_name="adopt-members")
def adopt(request: AdoptRequest) -> Adopted:
    """Make checkpoints of models and labels of datasets; they are on disk when this returns.

    Raises:
        ModelError: A model cannot be read, is of another architecture, or knows other elements.
        CampaignError: A dataset cannot be read, or holds what the gate does not let pass.
    """
    began = time.perf_counter()
    elements = _members(request)
    training, validation = request.given.training, request.given.validation
    files = sorted({*training.values(), *validation.values()})  # members may share a file
    keys = {file: _labels(request, file, elements) for file in files}
    return Adopted(
        action_id=request.action_id,
        checkpoints=dict.fromkeys(request.seeds, CHECKPOINT),
        training={tag: keys[file] for tag, file in training.items()},
        validation={tag: keys[file] for tag, file in validation.items()},
        elements=elements,
        task_seconds=time.perf_counter() - began,
    )


def _members(request: AdoptRequest) -> tuple[int, ...]:
    """Write the members' checkpoints; return the atomic numbers that all of them know."""
    from aimspax_core.model.given_models import adopt as adopt_model

    known: dict[str, tuple[int, ...]] = {}
    for tag, path in request.given.models.items():
        checkpoint = request.run.checkpoint(tag, CHECKPOINT)
        model = request.settings.model
        known[tag] = adopt_model(path, model, tag, request.seeds[tag], checkpoint)
    if len(set(known.values())) > 1:
        known_text = "; ".join(f"{tag}: {symbols_text(numbers)}" for tag, numbers in known.items())
        raise ModelError(f"the models know different elements: {known_text}")
    elements = next(iter(known.values()))
    for file, atoms in zip(
        request.settings.geometry_files,
        request.settings.geometries(),
        strict=True,
    ):
        _require_known(atoms, elements, str(file))
    return elements


def _labels(request: AdoptRequest, file: Path, elements: tuple[int, ...]) -> tuple[str, ...]:
    """Put a dataset into the label store; return the keys, in its order, each once."""
    store, keys = LabelStore(request.run.labels), []
    gate, names = request.settings.gate, DataKeys.of(request.settings.misc)
    energies, electrons = EnergyGate(gate), request.settings.electrons_of_frames()
    beside = request.settings.model.measured
    for frame, (atoms, label) in enumerate(read_labels(file, names, electrons, beside)):
        try:
            check_structure(atoms, gate)
            check_label(atoms, label, gate)
            energies.admit(atoms, label.energy)
        except (StructureError, LabelError) as error:
            raise CampaignError(f"{file}, frame {frame}: {error}") from error
        _require_known(atoms, elements, f"{file}, frame {frame}")
        identity = _identity(label)
        key = label_key(atoms, identity)
        label.provenance.update(carried(atoms, names))
        store.put(key, atoms, label, identity)
        keys.append(key)
    if not keys:
        raise CampaignError(f"{file}: holds no structures")
    return tuple(dict.fromkeys(keys))


def _identity(label: Label) -> dict[str, str]:
    """What makes a given label itself: nobody knows how it was computed, so its values do."""
    stress = [] if label.stress is None else np.asarray(label.stress).tolist()
    values = {"energy": label.energy, "forces": label.forces.tolist(), "stress": stress}
    beside = {name: getattr(label, name) for name in BESIDE}
    values |= {name: value.tolist() for name, value in beside.items() if value is not None}
    return {"engine": "given", "values": digest(values)}


def _require_known(atoms: Atoms, elements: tuple[int, ...], where: str) -> None:
    unknown = {int(z) for z in atoms.numbers} - set(elements)
    if unknown:
        raise CampaignError(
            f"{where} has {symbols_text(unknown)}, but the models know only "
            f"{symbols_text(elements)}"
        )
