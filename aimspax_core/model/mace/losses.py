"""MACE's loss functions, made safe for sets that mix structures with and without stress."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from mace.tools.scripts_utils import get_loss_fn, get_swa
from torch.optim.swa_utils import SWALR

from aimspax_core.errors import ModelError
from aimspax_core.model.mace.model_files import model_lock

_WEIGHTED = ("stress", "virials")


class LabelledOnly(torch.nn.Module):
    """One of MACE's losses, to which a structure without a stress label has no stress error.

    MACE's `huber` compares the stress of every structure of a batch, whatever its weight; the
    others multiply by the weight. Here the prediction stands in for a missing label, so that both
    value and gradient of its error are zero for all of them. Where every structure has its
    labels, this is MACE's loss.

    Args:
        loss: One of `mace.modules.loss`.
    """

    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, ref: Any, pred: dict[str, Any], ddp: bool | None = None) -> torch.Tensor:
        """Return the loss of a batch `ref` of labels and the model's output `pred`."""
        pred = dict(pred)
        for name in _WEIGHTED:
            if pred.get(name) is not None:
                has = (ref[f"{name}_weight"] > 0).view(-1, 1, 1)
                pred[name] = torch.where(has, pred[name], ref[name])
        return self.loss(ref=ref, pred=pred, ddp=ddp)


def first_loss(args: argparse.Namespace) -> LabelledOnly:
    """Return the loss function that `TRAINING.loss` names."""
    return LabelledOnly(get_loss_fn(args, dipole_only=False, compute_dipole=False))


def stage_two(
    args: argparse.Namespace, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[LabelledOnly, SWALR]:
    """Return loss and learning-rate scheduler of MACE's stage two, with MACE's default weights.

    Notes:
        MACE calls the stage SWA and keeps an `AveragedModel` during it, which it neither
        validates nor saves; it is left out here.

    Raises:
        ModelError: There is no stage two for this loss.
    """
    # MACE checks the start against the number of epochs, which is the caller's business.
    asked = argparse.Namespace(**vars(args) | {"start_swa": 0, "max_num_epochs": 1})
    try:
        with model_lock:  # it copies the model
            container, _ = get_swa(asked, model, optimizer, [])
    except ValueError as error:
        raise ModelError(f"TRAINING.swa: {error}") from error
    return LabelledOnly(container.loss_fn), container.scheduler
