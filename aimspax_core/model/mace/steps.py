"""How MACE trains: its own steps, losses and metrics (`mace.tools.train`)."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mace.data import AtomicData
from mace.tools.scripts_utils import get_optimizer, get_params_options
from mace.tools.torch_geometric.batch import Batch
from mace.tools.train import evaluate, train_one_epoch
from numpy.typing import NDArray
from torch.optim.swa_utils import SWALR
from torch.utils.data import DataLoader
from torch_ema import ExponentialMovingAverage

from aimspax_core.errors import DivergedError, ModelError
from aimspax_core.model.mace import losses
from aimspax_core.model.mace.build import Constants
from aimspax_core.model.mace.graphs import (
    arguments,
    batches,
    collated,
    energy_label,
)
from aimspax_core.model.mace.kernel import in_training, settle
from aimspax_core.model.mace.lora import forget_sums
from aimspax_core.model.number_format import number_format
from aimspax_core.model.residuals import Residuals
from aimspax_core.model.steps import Settled
from aimspax_core.settings.model import ModelSettings

_ENERGIES_BATCH = 16
"""Most structures a batch where energies alone are wanted; less if `valid_batch_size` is less."""


class MaceSteps:
    """See `aimspax_core.model.learner.Steps`.

    Args:
        settings: The user's.

    Attributes:
        outputs: What the model computes in training, by MACE's names; what is only measured costs
            no time there.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._computing: tuple[torch.nn.Module, torch.nn.Module] | None = None
        self._training, self._dtype = settings.TRAINING, settings.GENERAL.default_dtype
        self._device = torch.device(settings.MISC.device)
        self._arguments: argparse.Namespace = arguments(settings)
        virials = self._arguments.loss == "virials"
        trained = self._arguments.loss in ("stress", "huber", "universal")
        self.outputs = {"forces": True, "virials": virials, "stress": trained}
        self._measured = self.outputs | {"stress": settings.stress}

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return MACE's optimizer; weight decay acts on products and linears only."""
        return get_optimizer(self._arguments, get_params_options(self._arguments, model))

    def loss(self) -> losses.LabelledOnly:
        """Return the loss function that `TRAINING.loss` names."""
        with number_format(self._dtype):
            return losses.first_loss(self._arguments)

    def stage_two(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[losses.LabelledOnly, SWALR]:
        """Return loss and scheduler of MACE's stage two (SWA)."""
        with number_format(self._dtype):
            return losses.stage_two(self._arguments, model, optimizer)

    def settle(
        self, model: torch.nn.Module, train: Sequence[AtomicData], ahead_s: float
    ) -> Settled:
        """Settle how steps are computed; see `aimspax_core.model.family.Settle`."""
        with number_format(self._dtype):
            return settle(self._called(model), train, self._settings, ahead_s)

    def train_epoch(
        self,
        model: torch.nn.Module,
        loss: torch.nn.Module,
        train: Sequence[AtomicData],
        order: Sequence[int],
        optimizer: torch.optim.Optimizer,
        ema: ExponentialMovingAverage | None,
    ) -> float:
        """Train on every batch once; return the mean of the batches' losses."""
        found: Any = _Losses()
        with number_format(self._dtype):
            train_one_epoch(
                model=self._called(model),
                loss_fn=loss,
                data_loader=_shuffled(train, self._training.batch_size, order),
                optimizer=optimizer,
                epoch=0,
                output_args=self.outputs,
                max_grad_norm=self._training.clip_grad,
                ema=ema,
                logger=found,
                device=self._device,
                distributed=False,
            )
        return found.mean()

    def batches(self, valid: Sequence[AtomicData]) -> list[Batch]:
        """Collate validation graphs; if fewer than `valid_batch_size`, each is a batch."""
        if not valid:
            raise ModelError("there are no validation structures")
        size = self._training.valid_batch_size
        return batches(valid, size if len(valid) >= size else 1)

    def validate(
        self, model: torch.nn.Module, loss: torch.nn.Module, batches: Any
    ) -> tuple[float, dict[str, float | None]]:
        """Return MACE's validation loss, and its errors by MACE's names (eV, Å)."""
        with number_format(self._dtype):
            value, found = evaluate(
                self._called(model), loss, batches, self._measured, self._device
            )
        errors = {k: v for k, v in found.items() if k.startswith(("mae_", "rmse_"))}
        return float(value), {k: None if v is None else float(v) for k, v in errors.items()}

    def interaction_energies(
        self, model: torch.nn.Module, data: Sequence[AtomicData]
    ) -> NDArray[np.float64]:
        """Return the energies (eV) of structures without those of their free atoms."""
        part: Any = model
        free = part.atomic_energies_fn.atomic_energies
        size = min(_ENERGIES_BATCH, self._training.valid_batch_size)
        forget_sums(model)
        kept, computes = free.detach().clone(), self._called(model)
        found = []
        try:
            with torch.no_grad(), number_format(self._dtype):
                # Added and subtracted again, large energies would take the last digits with them.
                free.zero_()
                for batch in batches(data, size):
                    inputs = batch.to(self._device).to_dict()
                    found.append(computes(inputs, compute_force=False)["energy"].double().cpu())
        finally:
            with torch.no_grad():
                free.copy_(kept)
        return torch.cat(found).numpy()

    def _called(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return what computes the model, made once for it."""
        if self._computing is None or self._computing[0] is not model:
            self._computing = model, in_training(model, self._settings)
        return self._computing[1]


def misses(
    steps: MaceSteps, model: torch.nn.Module, data: Sequence[AtomicData], constants: Constants
) -> Residuals:
    """Return what a model misses of labelled energies; see `family.Family.misses`."""
    labelled = [graph for graph in data if graph.energy_weight > 0]
    counts = np.array([graph.node_attrs.sum(dim=0).tolist() for graph in labelled])
    free = counts @ np.array([energy for _, energy in sorted(constants.atomic_energies.items())])
    labels = np.array([energy_label(graph) for graph in labelled])
    return Residuals(counts, labels - free - steps.interaction_energies(model, labelled))


class _Losses:
    """In the place of MACE's logger: keeps batch losses, stops at one that is not finite."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def log(self, metrics: dict[str, Any]) -> None:
        self._values.append(float(metrics["loss"]))
        if not math.isfinite(self._values[-1]):
            raise DivergedError(f"diverged, the training loss is {self._values[-1]}")

    def mean(self) -> float:
        return sum(self._values) / len(self._values)


def _shuffled(data: Sequence[AtomicData], size: int, seed: Sequence[int]) -> DataLoader[Any]:
    """Deal training batches as MACE's `run_train`: shuffled, the last incomplete one dropped.

    With fewer structures than `size` each is a batch.
    """
    if not data:
        raise ModelError("there are no training structures")
    generator = torch.Generator()
    generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    size = size if len(data) >= size else 1
    dataset: Any = list(data)
    return DataLoader(
        dataset, size, shuffle=True, drop_last=True, generator=generator, collate_fn=collated
    )
