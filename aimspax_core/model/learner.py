"""A model with its optimizer, scheduler and averaged weights: one epoch, one validation.

What a step of training is belongs to the family of the model (`steps.Steps`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler, ReduceLROnPlateau
from torch_ema import ExponentialMovingAverage

from aimspax_core.errors import DivergedError, ModelError
from aimspax_core.model.steps import Settled
from aimspax_core.settings.model import ModelSettings

if TYPE_CHECKING:
    from aimspax_core.model.family import Family

_MAY_BE = ("stress", "dipole", "hirshfeld_ratios")
_ERRORS = ("mae_f", "rmse_f", "mae_e", "rmse_e", "mae_e_per_atom", "rmse_e_per_atom")


@dataclass(frozen=True)
class Metrics:
    """One validation, with averaged weights if there is an EMA. Energies in eV, lengths in Å.

    Attributes:
        epoch: Epochs of the stage done; 0 for the weights that a convergence began with.
        train_loss: Mean over the epoch's batches; none at epoch 0.
        valid_loss: Batch losses summed over number of structures, as MACE's `evaluate` has it.
        mae_f: Mean absolute error of the force components; `rmse_`: root mean square.
        mae_e: Of the total energies; `_per_atom`: of the energies an atom.
        mae_stress: Of the stress components; none without labels.
        lr: Learning rate of the epoch.
        seconds: Time of the epoch, this validation included.
        mae_dipole: Of the components of dipoles (e·Å); none where they are not looked at.
        mae_hirshfeld_ratios: Of the ratios of the atoms' Hirshfeld volumes; likewise.
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
    mae_dipole: float | None = None
    rmse_dipole: float | None = None
    mae_hirshfeld_ratios: float | None = None
    rmse_hirshfeld_ratios: float | None = None


class Learner:
    """A model in training, without any notion of when to stop.

    Args:
        family: The model's.
        settings: The user's.
        model: What the family built.
        scheduler: With or without a scheduler.

    Attributes:
        model: The model with its raw weights, moved to `MISC.device`.
        ema: Averaged weights (`torch_ema`), or none if `TRAINING.ema` is off.
        optimizer: The family's.
        scheduler: Of the learning rate, or none.
        steps: How the family trains.
    """

    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    _loss: torch.nn.Module
    _stage_two: LRScheduler | None

    def __init__(
        self, family: Family, settings: ModelSettings, model: torch.nn.Module, scheduler: bool
    ) -> None:
        self.settings = settings
        self.device = torch.device(settings.MISC.device)
        self.model = model.to(self.device)
        self.steps = family.steps(settings)
        self._family = family
        self._replaced = False
        self.ema = self._new_ema()
        self.fresh_optimizer(scheduler)

    @property
    def lr(self) -> float:
        """Learning rate now; of weights that are not frozen, whose rate MACE has as zero."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def fresh_optimizer(self, scheduler: bool) -> None:
        """Forget the optimizer's moments, the learning rate and stage two.

        Args:
            scheduler: With or without a scheduler.
        """
        self.optimizer = self.steps.optimizer(self.model)
        self.scheduler = self._new_scheduler() if scheduler else None
        self._stage_two = None
        self._loss = self.steps.loss().to(self.device)

    def begin_stage_two(self) -> None:
        """Take the loss and the learning rate of the second stage (SWA); moments stay.

        Raises:
            ModelError: There is no second stage for this loss.
        """
        loss, self._stage_two = self.steps.stage_two(self.model, self.optimizer)
        self._loss = loss.to(self.device)

    def take_averages(self, raw: bool = False) -> None:
        """Go on from the averaged weights, or from the raw ones, with a new average."""
        if self.ema is not None:
            if not raw:
                self.ema.copy_to(self.model.parameters())
            self.ema = self._new_ema()

    def restart_from(self, weights: dict[str, torch.Tensor]) -> None:
        """Go on from other weights, by name, with a new average."""
        self._put(weights)
        self.ema = self._new_ema()

    def settle(self, train: Sequence[Any], ahead_s: float) -> Settled:
        """Settle how steps are computed until it is settled again; see `family.Settle`."""
        return self._family.settle(self.steps, self.model, train, ahead_s)

    def train_epoch(self, train: Sequence[Any], order: Sequence[int]) -> float:
        """Train on every batch once; return the mean of the batches' losses.

        Args:
            train: Training graphs.
            order: The order of the batches follows from these numbers alone.

        Raises:
            DivergedError: A loss or a weight became non-finite; weights and averages are spoilt.
        """
        loss = self.steps.train_epoch(
            self.model, self._loss, train, order, self.optimizer, self.ema
        )
        if not self._finite():
            raise DivergedError("diverged, the weights are not finite")
        return loss

    def begin_epoch(self) -> None:
        """Step stage two's scheduler, before every epoch; there is none before."""
        if self._stage_two is not None:
            with warnings.catch_warnings():
                # After loading, torch cannot know that the optimizer has been stepped before.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler", UserWarning)
                self._stage_two.step()

    def end_epoch(self) -> None:
        """Step ExponentialLR, after every epoch."""
        if isinstance(self.scheduler, ExponentialLR) and self._stage_two is None:
            self.scheduler.step()

    def end_validation(self, valid_loss: float) -> None:
        """Step ReduceLROnPlateau, after every validation that steers."""
        if isinstance(self.scheduler, ReduceLROnPlateau) and self._stage_two is None:
            self.scheduler.step(valid_loss)

    def validate(self, batches: Sequence[Any]) -> tuple[float, dict[str, Any]]:
        """Return loss and errors with the averaged weights; the raw ones are back afterwards.

        Args:
            batches: What `steps.batches` returned.

        Returns:
            The validation loss, and errors by their names in `Metrics`.

        Raises:
            DivergedError: The loss is not finite.
            ModelError: The structures have no energies or forces.
        """
        with self.averaged():
            loss, found = self.steps.validate(self.model, self._loss, batches)
        if not math.isfinite(loss):
            raise DivergedError(f"diverged, the validation loss is {loss}")
        return float(loss), required(found, "validation set")

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the averaged weights in the model, if there are any; then the raw ones again."""
        if self.ema is None or self._replaced:
            yield
        else:
            with self.ema.average_parameters():
                yield

    @contextmanager
    def weights_in_place(self, weights: dict[str, torch.Tensor]) -> Iterator[None]:
        """Have other weights in the model, by name, and no averages; then its own again."""
        own = {name: one.detach().clone() for name, one in self.model.named_parameters()}
        self._replaced = True
        try:
            self._put(weights)
            yield
        finally:
            self._put(own)
            self._replaced = False

    def averaged_weights(self) -> dict[str, torch.Tensor]:
        """Return a copy on the CPU of the averaged weights by name (the raw ones without EMA)."""
        names, raw = zip(*self.model.named_parameters(), strict=True)
        weights = raw if self.ema is None else self.ema.shadow_params
        # A copy even on the CPU: training goes on in the original tensors.
        return {n: w.detach().to("cpu", copy=True) for n, w in zip(names, weights, strict=True)}

    def model_with(self, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
        """Return a copy of the model on the CPU with other weights, as it is given to users."""
        return self._family.copy_with(self.model, weights, self.settings)

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
            "kernels": self._family.kernels(self.settings),
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
        require_kernels(state, self._family.kernels(self.settings))
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

    def _put(self, weights: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(weights[name])

    def _new_ema(self) -> ExponentialMovingAverage | None:
        training = self.settings.TRAINING
        if not training.ema:
            return None
        return ExponentialMovingAverage(self.model.parameters(), decay=training.ema_decay)

    def _new_scheduler(self) -> LRScheduler:
        training = self.settings.TRAINING
        if training.scheduler == "ExponentialLR":
            return ExponentialLR(self.optimizer, training.lr_scheduler_gamma)
        return ReduceLROnPlateau(
            self.optimizer, factor=training.lr_factor, patience=training.scheduler_patience
        )

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(weight).all()) for weight in self.model.parameters())


def required(found: dict[str, float | None], which: str) -> dict[str, Any]:
    """Return errors by their names in `Metrics`; those of what need not be labelled may be None.

    Raises:
        ModelError: The set, `which`, has no energies or forces.
    """
    missing = [name for name in _ERRORS if name not in found]
    if missing:
        raise ModelError(f"the {which} has no labels for {', '.join(missing)}")
    errors: dict[str, Any] = {name: found[name] for name in _ERRORS}
    kinds = (f"{kind}_{name}" for name in _MAY_BE for kind in ("mae", "rmse"))
    return errors | {name: found.get(name) for name in kinds}


def require_kernels(learner: dict[str, Any], wanted: str) -> None:
    """Refuse a learner's state whose weights are held in another form.

    Raises:
        ValueError: `MISC.enable_cueq` was switched; moments and averages cannot be converted.
    """
    held = learner.get("kernels", wanted)
    if held != wanted:
        raise ValueError(f"MISC.enable_cueq was switched: it holds {held} weights, not {wanted}")


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out what torch keeps in a scheduler's state that is no data."""
    return {k: v for k, v in state.items() if isinstance(v, (bool, int, float, str, list))}
