"""What computes a MACE model: MACE itself, or the lean form of its network. Decided here alone.

Both read the same weights and agree to rounding. Models that are converted for cuEquivariance
have no lean form, so that `MISC.enable_cueq` always gets what it asks for.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from mace.data import AtomicData

from aimspax_core.model.committee import Evaluator
from aimspax_core.model.mace.evaluator import MaceEvaluator
from aimspax_core.model.mace.graphs import collated
from aimspax_core.model.mace.lean import Lean, LeanEvaluator, forms, why_not
from aimspax_core.model.mace.product_basis import same_couplings
from aimspax_core.model.steps import Settled
from aimspax_core.settings.model import ModelSettings

log = logging.getLogger(f"aimspax.{__name__}")


def in_training(model: torch.nn.Module, settings: ModelSettings) -> torch.nn.Module:
    """Return what is called in the place of a member's model, for its training and validation.

    Raises:
        ModelError: `MISC.kernel` is `lean`, and the model has no lean form.
    """
    if settings.MISC.enable_cueq:
        return model
    return Lean(model) if _is_lean([model], settings.MISC.kernel) else model


def settle(
    called: torch.nn.Module, train: Sequence[AtomicData], settings: ModelSettings, ahead_s: float
) -> Settled:
    """Settle how steps of training are computed, until it is settled again.

    Args:
        called: What `in_training` returned.
        train: Graphs of the training set; a set without a whole batch is not compiled.
        settings: For `MISC.compile`, `MISC.device` and `TRAINING.batch_size`.
        ahead_s: Seconds of training that the campaign can still need.
    """
    if not isinstance(called, Lean):
        return Settled()
    called.form = None
    mode, size = settings.MISC.compile, settings.TRAINING.batch_size
    if mode != "off" and len(train) >= size:
        device = torch.device(settings.MISC.device)

        def collate(graphs: Sequence[AtomicData]) -> dict[str, torch.Tensor]:
            batch: dict[str, torch.Tensor] = collated(graphs).to(device).to_dict()
            return batch

        wanted_s = math.inf if mode == "on" else ahead_s
        called.form = forms().settle(called, train, size, collate, wanted_s)
    elif mode == "on":
        forms().note(
            "training is not compiled as long as there are fewer structures to train on than "
            f"TRAINING.batch_size, {size}"
        )
    return Settled(called.form is not None, forms().take_notes())


def evaluator(
    models: Sequence[torch.nn.Module],
    device: str | torch.device = "cpu",
    dtype: str | None = None,
    kernel: str = "auto",
) -> Evaluator:
    """Put models side by side; see `family.MakeEvaluator`.

    Models of several architectures, such as somebody gives, are MACE's business.

    Raises:
        ModelError: `kernel` is `lean`, and a model has no lean form.
    """
    lean = _is_lean(models, kernel) and _share_their_shape(models)
    return (LeanEvaluator if lean else MaceEvaluator)(models, device, dtype)


def foundation_form(models: Sequence[torch.nn.Module], kernel: str) -> str:
    """Return the form, `lean` or `mace`, that computes a foundation model.

    It is not the architecture of the settings: what has no lean form is MACE's business, also
    with `MISC.kernel: lean`.
    """
    if kernel == "mace":
        return "mace"
    obstacle = next(filter(None, map(why_not, models)), None)
    if obstacle is None:
        return "lean"
    log.info("the foundation model has no lean form (%s): MACE itself computes it", obstacle)
    return "mace"


def _is_lean(models: Sequence[torch.nn.Module], kernel: str) -> bool:
    return kernel == "lean" or (kernel == "auto" and not any(map(why_not, models)))


def _share_their_shape(models: Sequence[torch.nn.Module]) -> bool:
    """Whether all models have parameters of the same names and shapes, of the same meaning."""
    shapes = [{name: p.shape for name, p in model.named_parameters()} for model in models]
    if any(one != shapes[0] for one in shapes):
        return False
    return all(same_couplings(models[0], model) for model in models[1:])
