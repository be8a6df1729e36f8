"""A step of training: the package's losses, a term for the stress, torch's optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from so3krates_torch.modules.loss import (
    WeightedEnergyForcesDipoleHirshfeldLoss,
    WeightedEnergyForcesDipoleLoss,
    WeightedEnergyForcesHirshfeldLoss,
    WeightedEnergyForcesLoss,
)
from torch_ema import ExponentialMovingAverage

from aimspax_core.errors import DivergedError, ModelError
from aimspax_core.model.number_format import number_format
from aimspax_core.model.residuals import Residuals
from aimspax_core.model.so3krates.constants import Constants
from aimspax_core.model.so3krates.graphs import Batch, Graph, collated
from aimspax_core.model.so3krates.heads import SHARES, alike, dealt, is_of_a_head, one_each
from aimspax_core.model.so3krates.network import call, without_free_atoms
from aimspax_core.settings.model import WEIGHTS, ModelSettings


class WithStress(torch.nn.Module):
    """A loss of the package and one of the stress, which it has not.

    Source: as MACE's `WeightedEnergyForcesStressLoss`: the mean over structures and components of
    the squared error, times the structure's weight; structures without the label have weight 0.

    Args:
        rest: The loss of energy and forces.
        weight: `TRAINING.stress_weight`.
    """

    def __init__(self, rest: torch.nn.Module, weight: float) -> None:
        super().__init__()
        self.rest, self.weight = rest, weight

    def forward(self, ref: Batch, pred: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of a batch of labels and the model's output."""
        weights = (ref.weight * ref.stress_weight).view(-1, 1, 1)
        # What a structure that is not periodic is said to have may be infinite.
        stress = torch.where(weights > 0, pred["stress"], ref.stress)
        found: torch.Tensor = self.rest(ref, pred)
        return found + self.weight * (weights * (stress - ref.stress) ** 2).mean()


_LOSSES: Mapping[tuple[str, ...], Callable[..., torch.nn.Module]] = {
    (): WeightedEnergyForcesLoss,
    ("dipole",): WeightedEnergyForcesDipoleLoss,
    ("hirshfeld_ratios",): WeightedEnergyForcesHirshfeldLoss,
    ("dipole", "hirshfeld_ratios"): WeightedEnergyForcesDipoleHirshfeldLoss,
}
"""The package's losses, by what they train on beside energy and forces."""


class WhereLabelled(torch.nn.Module):
    """A loss of the package whose term for dipoles heeds labels that are missing, and weights.

    The package compares the dipoles of every structure, and does not weigh them. Here the
    prediction stands in for a label that is missing: value and gradient of its error are zero.
    Both are scaled by the root of the structure's weight, as errors are squared.

    Args:
        loss: The package's.
    """

    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, ref: Batch, pred: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of a batch of labels and the model's output."""
        has = (ref.dipole_weight > 0).view(-1, 1)
        scale = ref.weight.sqrt().view(-1, 1)
        label = scale * ref.dipole
        dipole = torch.where(has, scale * pred["dipole"], label)
        found: torch.Tensor = self.loss(Batch({**ref, "dipole": label}), {**pred, "dipole": dipole})
        return found


class So3kratesSteps:
    """See `aimspax_core.model.steps.Steps`.

    Args:
        settings: The user's.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._training, self._name = settings.TRAINING, settings.ARCHITECTURE.model_choice
        self._format = settings.GENERAL.default_dtype
        self._dtype = getattr(torch, settings.GENERAL.default_dtype)
        self._device = torch.device(settings.MISC.device)
        self._trains_stress = settings.TRAINING.loss in settings.family.stress_losses
        self._measures_stress = settings.stress
        self._beside, self._measured = settings.beside, settings.measured
        self._heads = settings.heads

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return a fresh optimizer of all weights.

        Those of several heads do not decay: Adam would move a head that a batch does not train by
        that alone, as far as by a gradient.
        """
        kinds: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        trained = {n: weight for n, weight in model.named_parameters() if weight.requires_grad}
        heads = [trained.pop(name) for name in list(trained) if is_of_a_head(name)]
        groups: list[dict[str, Any]] = [{"params": list(trained.values())}]
        groups += [{"params": heads, "weight_decay": 0.0}] if heads else []
        optimizer: torch.optim.Optimizer = kinds[self._training.optimizer](
            groups,
            lr=self._training.lr,
            weight_decay=self._training.weight_decay,
            amsgrad=self._training.amsgrad,
        )
        return optimizer

    def loss(self) -> torch.nn.Module:
        """Return the loss function that `TRAINING.loss` names."""
        weights = [getattr(self._training, WEIGHTS[name]) for name in self._beside]
        with number_format(self._format):
            rest = _LOSSES[self._beside](
                self._training.energy_weight, self._training.forces_weight, *weights
            )
        if "dipole" in self._beside:
            rest = WhereLabelled(rest)
        if self._trains_stress:
            return WithStress(rest, self._training.stress_weight).to(self._device)
        return rest.to(self._device)

    def stage_two(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> NoReturn:
        """Refuse: there is none."""
        raise ModelError(f"TRAINING.swa: {self._name} models have no second stage")

    def train_epoch(
        self,
        model: torch.nn.Module,
        loss: torch.nn.Module,
        train: Sequence[Graph],
        order: Sequence[int],
        optimizer: torch.optim.Optimizer,
        ema: ExponentialMovingAverage | None,
    ) -> float:
        """Train on every batch once; see `Steps.train_epoch`.

        Batches are shuffled, and the last is dropped if it is incomplete; with fewer structures
        than `batch_size` each is a batch. With several heads, each structure trains one of them;
        see `heads.dealt`.
        """
        if not train:
            raise ModelError("there are no training structures")
        size = self._training.batch_size if len(train) >= self._training.batch_size else 1
        random = np.random.default_rng(list(order))
        shuffled = random.permutation(len(train))
        heads = dealt(train, self._heads, random) if self._heads > 1 else None
        found = []
        model.train()
        for start in range(0, len(train) - size + 1, size):
            own = shuffled[start : start + size]
            batch = collated([train[i] for i in own], self._dtype)
            if heads is not None:
                batch[SHARES] = one_each(heads[own], self._heads, self._dtype)
            found.append(self._step(model, loss, batch.to(self._device), optimizer))
            if ema is not None:
                ema.update()
        return sum(found) / len(found)

    def batches(self, valid: Sequence[Graph]) -> list[Batch]:
        """Collate validation graphs; if fewer than `valid_batch_size`, each is a batch."""
        if not valid:
            raise ModelError("there are no validation structures")
        size = (
            self._training.valid_batch_size if len(valid) >= self._training.valid_batch_size else 1
        )
        return [
            self._together(valid[start : start + size]).to(self._device)
            for start in range(0, len(valid), size)
        ]

    def _together(self, some: Sequence[Graph]) -> Batch:
        """Return graphs as one batch, to be predicted by the mean of the heads."""
        batch = collated(some, self._dtype)
        if self._heads > 1:
            batch[SHARES] = alike(len(some), self._heads, self._dtype)
        return batch

    def validate(
        self, model: torch.nn.Module, loss: torch.nn.Module, batches: Sequence[Batch]
    ) -> tuple[float, dict[str, float | None]]:
        """Return the loss over the number of structures, as MACE has it, and errors (eV, Å)."""
        model.eval()
        total, structures = 0.0, 0
        names = ("e", "e_per_atom", "f", "stress", *self._measured)
        errors: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        for batch in batches:
            found = self._predicted(model, batch, self._measures_stress, training=False)
            with torch.no_grad():
                total += float(loss(batch, found))
            structures += len(batch.sizes)
            _collect(errors, batch, found)
        measured: dict[str, float | None] = {}
        for name, parts in errors.items():
            error = torch.cat(parts).double() if parts else torch.empty(0)
            measured[f"mae_{name}"] = float(error.abs().mean()) if len(error) else None
            measured[f"rmse_{name}"] = float(error.square().mean().sqrt()) if len(error) else None
        return total / structures, measured

    def interaction_energies(
        self, model: torch.nn.Module, data: Sequence[Graph]
    ) -> NDArray[np.float64]:
        """Return the energies (eV) of structures, shape (S,), without those of free atoms."""
        model.eval()
        with without_free_atoms(model):
            found = [
                self._predicted(model, batch, stress=False, training=False)["energy"].detach()
                for batch in self.batches(data)
            ]
        return np.asarray(torch.cat(found).double().cpu())

    def _step(
        self, model: torch.nn.Module, loss: torch.nn.Module, batch: Batch, optimizer: Any
    ) -> float:
        """Take one step of the optimizer; return the loss before it."""
        optimizer.zero_grad(set_to_none=True)
        value = loss(batch, self._predicted(model, batch, self._trains_stress, training=True))
        found = float(value.detach())
        if not math.isfinite(found):
            raise DivergedError(f"diverged, the training loss is {found}")
        value.backward()
        if self._training.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), self._training.clip_grad)
        optimizer.step()
        return found

    def _predicted(
        self, model: torch.nn.Module, batch: Batch, stress: bool, training: bool
    ) -> dict[str, Any]:
        with number_format(self._format):
            return call(model, _inputs(batch), training=training, compute_stress=stress)


def misses(
    steps: So3kratesSteps, model: torch.nn.Module, data: Sequence[Graph], constants: Constants
) -> Residuals:
    """Return what a model misses of labelled energies; see `family.Family.misses`."""
    labelled = [graph for graph in data if graph.energy is not None]
    energies = sorted(constants.atomic_energies.items())
    counts = np.array([[(graph.numbers == z).sum() for z, _ in energies] for graph in labelled])
    free = counts @ np.array([energy for _, energy in energies])
    labels = np.array([graph.energy for graph in labelled], dtype=np.float64)
    bound = labels - free - steps.interaction_energies(model, labelled)
    return Residuals(counts.astype(np.float64), bound)


_LABELS = ("energy", "forces", "stress", "dipole", "hirshfeld_ratios", "weight", "sizes")


def _inputs(batch: Batch) -> dict[str, torch.Tensor]:
    """Return what the network reads: labels stay away, and the positions given stay as they are."""
    inputs = {k: v for k, v in batch.items() if k not in _LABELS and not k.endswith("_weight")}
    return inputs | {"positions": batch.positions.detach().clone()}


def _collect(
    errors: dict[str, list[torch.Tensor]], batch: Batch, found: dict[str, torch.Tensor]
) -> None:
    """Add the errors of a batch, where there are labels."""
    energy = (found["energy"] - batch.energy).detach()
    has = batch.energy_weight > 0
    errors["e"].append(energy[has])
    errors["e_per_atom"].append((energy / batch.sizes)[has])
    atoms = (batch.forces_weight > 0).repeat_interleave(batch.sizes)
    errors["f"].append((found["forces"] - batch.forces).detach()[atoms].flatten())
    if found.get("stress") is not None:
        cells = batch.stress_weight > 0
        errors["stress"].append((found["stress"] - batch.stress).detach()[cells].flatten())
    for name in errors.keys() & {"dipole", "hirshfeld_ratios"}:
        labelled = batch[f"{name}_weight"] > 0
        if name == "hirshfeld_ratios":
            labelled = labelled.repeat_interleave(batch.sizes)
        errors[name].append((found[name] - batch[name]).detach()[labelled].flatten())
