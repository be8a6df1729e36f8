"""Models assessed by a held-out set, as members are validated: same loss, same averaged weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from aimspax_core.errors import ModelError
from aimspax_core.labels.dataset import DEFAULT_KEYS, DataKeys, put_beside, read_labels
from aimspax_core.model.family import Graph, family_of
from aimspax_core.model.learner import Metrics, required
from aimspax_core.model.trained import trained_model
from aimspax_core.settings.model import ModelSettings


def held_out(
    file: Path,
    keys: DataKeys,
    settings: ModelSettings,
    elements: Sequence[int],
    electrons: Mapping[str, float] | None = None,
) -> list[Graph]:
    """Read a labelled dataset as graphs.

    Args:
        file: Extended XYZ.
        keys: What the quantities are called in it.
        settings: Of the models.
        elements: Atomic numbers that they know.
        electrons: `charge` (e) and `spin` (2S+1) of frames that say nothing of them.

    Raises:
        CampaignError: It cannot be read, or a frame has no energy or forces.
        ModelError: A structure has an element that the models do not know.
    """
    frames = labelled_frames(file, keys, settings, electrons)
    return family_of(settings).graphs(frames, elements, settings)


def labelled_frames(
    file: Path,
    keys: DataKeys,
    settings: ModelSettings,
    electrons: Mapping[str, float] | None = None,
) -> list[Atoms]:
    """Read a labelled dataset, with labels under the names by which a family finds them.

    Args:
        file: As for `held_out`, like the others.
        keys: See there.
        settings: Of the models.
        electrons: See there.

    Raises:
        CampaignError: It cannot be read, or a frame has no energy or forces.
    """
    structures = []
    for atoms, label in read_labels(file, keys, electrons, settings.measured):
        atoms.info[DEFAULT_KEYS.energy] = label.energy
        atoms.arrays[DEFAULT_KEYS.forces] = label.forces
        if label.stress is not None:
            atoms.info[DEFAULT_KEYS.stress] = label.stress
        put_beside(atoms, label)
        structures.append(atoms)
    return structures


class Assessor:
    """Measures errors of models on one set, or on several and all of them together.

    Args:
        settings: Of the models.
        sets: Graphs, by the name of their set.
    """

    def __init__(self, settings: ModelSettings, sets: Mapping[str, Sequence[Graph]]) -> None:
        self._settings, self._device = settings, torch.device(settings.MISC.device)
        self._steps = family_of(settings).steps(settings)
        self._loss = self._steps.loss().to(self._device)
        together = [graph for graphs in sets.values() for graph in graphs]
        apart = sets if len(sets) > 1 else {}
        self._batches = {n: self._steps.batches(s) for n, s in {"": together, **apart}.items()}
        self._model: torch.nn.Module | None = None

    def errors_of(self, checkpoint: Path, constants: Any = None) -> dict[str, Metrics]:
        """Return the errors of a member's model, as it is published, by set; by "" of all.

        Args:
            checkpoint: The member's.
            constants: Of the model, in place of those in the checkpoint.

        Raises:
            DamagedError: There is no checkpoint, or it is not as it was written.
            ModelError: It does not fit the settings, or a set has no energies or forces.
        """
        found = trained_model(checkpoint, self._settings, self._model, constants)
        self._model = found.to(self._device)
        return {name: self._measured(self._model, each) for name, each in self._batches.items()}

    def _measured(self, model: torch.nn.Module, batches: Sequence[object]) -> Metrics:
        began = time.perf_counter()
        loss, found = self._steps.validate(model, self._loss, batches)
        if not torch.isfinite(torch.tensor(loss)):
            raise ModelError(f"the loss on the held-out set is {loss}")
        errors = required(found, "held-out set")
        seconds = time.perf_counter() - began
        return Metrics(0, None, float(loss), lr=0.0, seconds=seconds, **errors)
