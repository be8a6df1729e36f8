"""What a step of training is: the part of training that belongs to a family of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch_ema import ExponentialMovingAverage

if TYPE_CHECKING:
    pass


class Settled(NamedTuple):
    """How the steps of a training are computed.

    Attributes:
        compiled: Whether by code that was compiled for them.
        notes: What is to be told of it, once each.
    """

    compiled: bool = False
    notes: tuple[str, ...] = ()


class Steps(Protocol):
    """How a family trains: made once for a learner, for its settings."""

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return a fresh optimizer of the model's weights."""
        ...

    def loss(self) -> torch.nn.Module:
        """Return the loss function that `TRAINING.loss` names."""
        ...

    def stage_two(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[torch.nn.Module, LRScheduler]:
        """Return loss and learning-rate scheduler of a second stage (`TRAINING.swa`).

        The scheduler is stepped before every epoch.

        Raises:
            ModelError: There is none for this loss.
        """
        ...

    def train_epoch(
        self,
        model: torch.nn.Module,
        loss: torch.nn.Module,
        train: Sequence[Any],
        order: Sequence[int],
        optimizer: torch.optim.Optimizer,
        ema: ExponentialMovingAverage | None,
    ) -> float:
        """Train on every batch once, updating the averages after each; return the mean loss.

        Args:
            model: With its raw weights.
            loss: What `loss` or `stage_two` returned.
            train: Training graphs.
            order: The order of the batches follows from these numbers alone.
            optimizer: What `optimizer` returned.
            ema: The averages, or none.

        Raises:
            DivergedError: A loss is not finite.
            ModelError: There are no graphs.
        """
        ...

    def batches(self, valid: Sequence[Any]) -> list[Any]:
        """Collate validation graphs for `validate`.

        Raises:
            ModelError: There are none.
        """
        ...

    def validate(
        self, model: torch.nn.Module, loss: torch.nn.Module, batches: Sequence[Any]
    ) -> tuple[float, dict[str, float | None]]:
        """Return the loss, and errors by the names of `Metrics`; those without labels left out."""
        ...
