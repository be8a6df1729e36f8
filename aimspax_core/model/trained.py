"""The model that a member predicts with, from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aimspax_core.errors import ModelError
from aimspax_core.model.checkpoint import read_checkpoint
from aimspax_core.model.family import family_of
from aimspax_core.model.learner import require_kernels
from aimspax_core.model.skeletons import skeletons
from aimspax_core.settings.model import ModelSettings


def trained_model(
    checkpoint: Path,
    settings: ModelSettings,
    model: torch.nn.Module | None = None,
    constants: Any = None,
) -> torch.nn.Module:
    """Return a model with a checkpoint's constants and weights.

    Of its weights, those of the best epoch, averaged, or raw, the first there are.

    Args:
        checkpoint: What `Member.save` wrote.
        settings: The member's.
        model: One that this function has returned for a member with these settings, to be loaded
            anew if it has weights of the same shapes.
        constants: In place of the checkpoint's.

    Raises:
        DamagedError: There is no checkpoint, or it is not as it was written.
        ModelError: It does not fit the settings.
    """
    state = read_checkpoint(checkpoint)
    family = family_of(settings)
    try:
        constants = constants or family.constants(**state["constants"])
        require_kernels(state["learner"], family.kernels(settings))
        weights = state["learner"]["model"]
        if model is None or not _alike(model.state_dict(), weights):
            held = family.settings_of(settings, weights)
            model = skeletons().copy(held, state["elements"], constants)
        _take_weights(model, state)
        model = family.fused(model)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"checkpoint {checkpoint} does not fit these settings: {error}") from error
    family.set_constants(model, constants, state["elements"])
    return model


def _alike(weights: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> bool:
    """Whether names and shapes are the same: those of given models need not be."""
    return {k: w.shape for k, w in weights.items()} == {k: w.shape for k, w in others.items()}


def _take_weights(model: torch.nn.Module, state: dict[str, Any]) -> None:
    averages, best = state["learner"]["ema"], state["best_weights"]
    model.load_state_dict(state["learner"]["model"])
    if best is not None:
        averages = {"shadow_params": [best[name] for name, _ in model.named_parameters()]}
    if averages is not None:
        with torch.no_grad():
            for parameter, average in zip(
                model.parameters(), averages["shadow_params"], strict=True
            ):
                parameter.copy_(average)
