"""A MACE model with its optimizer, scheduler and averaged weights: one epoch, one validation.

Steps, losses, metrics and averages are MACE's own (`mace.tools.train`, `torch_ema`).
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mace.data import AtomicData
from mace.tools.scripts_utils import LRScheduler, get_optimizer, get_params_options
from mace.tools.torch_geometric.batch import Batch
from mace.tools.torch_geometric.dataloader import DataLoader
from mace.tools.train import evaluate, train_one_epoch
from torch.optim.swa_utils import SWALR
from torch_ema import ExponentialMovingAverage

from aimspax_core.errors import ModelError
from aimspax_core.model.mace.cueq import kernels, require_kernels, to_cueq, to_e3nn
from aimspax_core.model.mace.graphs import arguments, batches, number_format
from aimspax_core.model.mace.losses import LabelledOnly, first_loss, stage_two
from aimspax_core.model.mace.model_files import copy_model
from aimspax_core.settings.model import ModelSettings

_ERRORS = ("mae_f", "rmse_f", "mae_e", "rmse_e", "mae_e_per_atom", "rmse_e_per_atom")


@dataclass(frozen=True)
class Metrics:
    """One validation, with averaged weights if there is an EMA. Energies in eV, lengths in Å.

    Attributes:
        epoch: Epochs of the stage done; 0 for the weights that a convergence began with.
        train_loss: Mean over the epoch's batches; none at epoch 0.
        valid_loss: As MACE's `evaluate` has it: batch losses summed over number of structures.
        mae_f: Mean absolute error of the force components; `rmse_`: root mean square.
        mae_e: Of the total energies; `_per_atom`: of the energies an atom.
        mae_stress: Of the stress components; none without labels.
        lr: Learning rate of the epoch.
        seconds: Time of the epoch, this validation included.
    """

    epoch: int
    train_loss: float | None
    valid_loss: float
    mae_f: float
    rmse_f: float
    mae_e: float
    rmse_e: float
    mae_e_per_atom: float
    rmse_e_per_atom: float
    mae_stress: float | None
    rmse_stress: float | None
    lr: float
    seconds: float


class Learner:
    """A model in training, without any notion of when to stop.

    Attributes:
        model: The model with its raw weights, moved to `MISC.device`.
        ema: Averaged weights (`torch_ema`), or none if `TRAINING.ema` is off.
        optimizer: MACE's.
        scheduler: MACE's, or none.
    """

    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    _loss: LabelledOnly
    _stage_two: SWALR | None

    def __init__(self, settings: ModelSettings, model: torch.nn.Module, scheduler: bool) -> None:
        self.settings = settings
        self.device = torch.device(settings.MISC.device)
        self.model = to_cueq(model, settings).to(self.device)
        self._arguments: argparse.Namespace = arguments(settings)
        # The first for training: what is only measured costs no time there.
        virials = self._arguments.loss == "virials"
        trained = self._arguments.loss in ("stress", "huber", "universal")
        self._outputs = {"forces": True, "virials": virials, "stress": trained}
        self._measured = self._outputs | {"stress": settings.stress}
        self.ema = self._new_ema()
        self.fresh_optimizer(scheduler)

    @property
    def lr(self) -> float:
        """Learning rate now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def fresh_optimizer(self, scheduler: bool) -> None:
        """Forget the optimizer's moments, the learning rate and stage two.

        Args:
            scheduler: With or without a scheduler.
        """
        options = get_params_options(self._arguments, self.model)
        self.optimizer = get_optimizer(self._arguments, options)
        self.scheduler = LRScheduler(self.optimizer, self._arguments) if scheduler else None
        self._stage_two = None
        with self._number_format():
            self._loss = first_loss(self._arguments).to(self.device)

    def begin_stage_two(self) -> None:
        """Take the loss and the learning rate of MACE's stage two (SWA); moments stay.

        Raises:
            ModelError: There is no stage two for this loss.
        """
        with self._number_format():
            loss, self._stage_two = stage_two(self._arguments, self.model, self.optimizer)
        self._loss = loss.to(self.device)

    def take_averages(self, raw: bool = False) -> None:
        """Go on from the averaged weights, or from the raw ones, with a new average."""
        if self.ema is not None:
            if not raw:
                self.ema.copy_to(self.model.parameters())
            self.ema = self._new_ema()

    def restart_from(self, weights: dict[str, torch.Tensor]) -> None:
        """Go on from other weights, by name, with a new average."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(weights[name])
        self.ema = self._new_ema()

    def train_epoch(self, train: Sequence[AtomicData], seed: Sequence[int]) -> float:
        """Train on every batch once; return the mean of the batches' losses.

        Args:
            train: Training graphs.
            seed: The order of the batches follows from these numbers alone.

        Raises:
            ModelError: A loss or a weight became non-finite; weights and averages are spoilt.
        """
        losses: Any = _Losses()
        with self._number_format():
            train_one_epoch(
                model=self.model,
                loss_fn=self._loss,
                data_loader=_shuffled(train, self.settings.TRAINING.batch_size, seed),
                optimizer=self.optimizer,
                epoch=0,
                output_args=self._outputs,
                max_grad_norm=self.settings.TRAINING.clip_grad,
                ema=self.ema,
                logger=losses,
                device=self.device,
                distributed=False,
            )
        if not self._finite():
            raise ModelError("diverged, the weights are not finite")
        return losses.mean()

    def begin_epoch(self) -> None:
        """Step stage two's scheduler, before every epoch; there is none before."""
        if self._stage_two is not None:
            with warnings.catch_warnings():
                # After loading, torch cannot know that the optimizer has been stepped before.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler", UserWarning)
                self._stage_two.step()

    def step_scheduler(self, valid_loss: float | None) -> None:
        """Step ExponentialLR after an epoch (no loss), ReduceLROnPlateau after a validation."""
        by_epoch = self.settings.TRAINING.scheduler == "ExponentialLR"
        if self.scheduler is None or self._stage_two is not None:
            return
        if by_epoch == (valid_loss is None):
            self.scheduler.step(metrics=valid_loss)

    def valid_batches(self, valid: Sequence[AtomicData]) -> list[Batch]:
        """Collate validation graphs; if fewer than `valid_batch_size`, each is a batch."""
        if not valid:
            raise ModelError("there are no validation structures")
        size = self.settings.TRAINING.valid_batch_size
        return batches(valid, size if len(valid) >= size else 1)

    def validate(self, valid: Any) -> tuple[float, dict[str, Any]]:
        """Return loss and errors with the averaged weights; the raw ones are back afterwards.

        Args:
            valid: What `valid_batches` returned.

        Returns:
            MACE's validation loss, and its errors by MACE's names (eV, Å; none without labels).

        Raises:
            ModelError: The loss is not finite, or the structures have no energies or forces.
        """
        averaged = nullcontext() if self.ema is None else self.ema.average_parameters()
        with self._number_format(), averaged:
            loss, found = evaluate(self.model, self._loss, valid, self._measured, self.device)
        if not math.isfinite(loss):
            raise ModelError(f"diverged, the validation loss is {loss}")
        missing = [name for name in _ERRORS if name not in found]
        if missing:
            raise ModelError(f"the validation set has no labels for {', '.join(missing)}")
        errors = {name: float(found[name]) for name in _ERRORS}
        return float(loss), errors | {k: found.get(k) for k in ("mae_stress", "rmse_stress")}

    def averaged_weights(self) -> dict[str, torch.Tensor]:
        """Return a copy on the CPU of the averaged weights by name (the raw ones without EMA)."""
        names, raw = zip(*self.model.named_parameters(), strict=True)
        weights = raw if self.ema is None else self.ema.shadow_params
        # A copy even on the CPU: training goes on in the original tensors.
        return {n: w.detach().to("cpu", copy=True) for n, w in zip(names, weights, strict=True)}

    def model_with(self, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
        """Return a copy of the model on the CPU with other weights, as e3nn has them."""
        model = copy_model(self.model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        return to_e3nn(model, self.settings)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on, in plain containers and tensors.

        Raises:
            ModelError: The weights are not finite.
        """
        if not self._finite():
            raise ModelError("weights that are not finite are not saved")
        # Without the copy of the raw weights that the last validation left behind.
        ema = None if self.ema is None else self.ema.state_dict() | {"collected_params": None}
        return {
            "kernels": kernels(self.settings),
            "model": self.model.state_dict(),
            "ema": ema,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "stage_two": None if self._stage_two is None else _plain(self._stage_two.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; the scheduler must be there or not as then.

        Raises:
            KeyError, RuntimeError, ValueError: The state is of another architecture or training.
        """
        if (self.ema is None) != (state["ema"] is None):
            raise ValueError("TRAINING.ema was switched")
        require_kernels(state, self.settings)
        self.model.load_state_dict(state["model"])
        if state.get("stage_two") is not None:
            self.begin_stage_two()  # marks the optimizer's groups, so before these are loaded
            assert self._stage_two is not None
            self._stage_two.load_state_dict(state["stage_two"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])

    def _new_ema(self) -> ExponentialMovingAverage | None:
        training = self.settings.TRAINING
        if not training.ema:
            return None
        return ExponentialMovingAverage(self.model.parameters(), decay=training.ema_decay)

    def _number_format(self) -> AbstractContextManager[None]:
        return number_format(self.settings.GENERAL.default_dtype)

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(weight).all()) for weight in self.model.parameters())


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out what torch keeps in a scheduler's state that is no data."""
    return {k: v for k, v in state.items() if isinstance(v, (bool, int, float, str, list))}


class _Losses:
    """In the place of MACE's logger: keeps batch losses, stops at one that is not finite."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def log(self, metrics: dict[str, Any]) -> None:
        self._values.append(float(metrics["loss"]))
        if not math.isfinite(self._values[-1]):
            raise ModelError(f"diverged, the training loss is {self._values[-1]}")

    def mean(self) -> float:
        return sum(self._values) / len(self._values)


def _shuffled(data: Sequence[AtomicData], size: int, seed: Sequence[int]) -> DataLoader:
    """Deal training batches as MACE's `run_train`: shuffled, the last incomplete one dropped.

    With fewer structures than `size` each is a batch.
    """
    if not data:
        raise ModelError("there are no training structures")
    generator = torch.Generator()
    generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    size = size if len(data) >= size else 1
    dataset: Any = list(data)
    return DataLoader(dataset, size, shuffle=True, drop_last=True, generator=generator)
