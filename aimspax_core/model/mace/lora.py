"""LoRA: what is trained is added to the linear maps of a model whose own weights stay.

To a map W it adds α / r · A B, with A random and B zero at first, of the inner size r; of
equivariant maps each irrep has its own. MACE's own layers and functions do it.
Source: `mace.modules.lora`; Hu et al., arXiv:2106.09685.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from mace.modules import lora

from aimspax_core.model.mace.model_files import model_lock
from aimspax_core.model.number_format import number_format
from aimspax_core.settings.model import ModelSettings

_DENSE = (lora.LoRADenseLinear, lora.LoRAFCLayer)
_LAYERS = (lora.LoRAO3Linear, *_DENSE)


def with_lora(model: torch.nn.Module, settings: ModelSettings, seed: int) -> torch.nn.Module:
    """Return the model, with LoRA in it if the settings train that; it is changed in place.

    Args:
        model: A model without.
        settings: For the section TRAINING, and the number format.
        seed: Of the matrices A; torch's global random state is left as it was.
    """
    training = settings.TRAINING
    if not training.uses_lora:
        return model
    with (
        model_lock,
        number_format(settings.GENERAL.default_dtype),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        # As in `build`: from e3nn, and the user can do nothing about them.
        warnings.filterwarnings("ignore", message="The TorchScript type system")
        torch.default_generator.manual_seed(seed)
        lora.inject_lora(model, training.lora_rank, training.lora_alpha)
    if training.lora_freeze_A:
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.requires_grad_(False)
    return model


def fused(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model without LoRA, which is added to its weights; it is changed in place."""
    if not any(isinstance(part, _LAYERS) for part in model.modules()):
        return model
    return lora.merge_lora_weights(model)


def forget_sums(model: torch.nn.Module) -> None:
    """Have layers add anew: where no gradients are wanted they keep sums of earlier weights."""
    for part in model.modules():
        layer: Any = part
        if isinstance(part, _DENSE):
            layer._cached_delta = None
        elif isinstance(part, lora.LoRAO3Linear):
            layer._cached_merged_weight = None
