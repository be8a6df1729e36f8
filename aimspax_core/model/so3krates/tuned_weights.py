"""Which weights of a So3krates or SO3LR that is fine-tuned are trained: LoRA, and frozen parts.

LoRA adds scaled products of two thin matrices, A B, to the matrices of the attention, A random and
B zero at first; it does so by the package's own layers. The package multiplies them by α / √r of
the rank r, where MACE has α / r.
Source: `so3krates_torch.tools.finetune`; Hu et al., arXiv:2106.09685; Kalajdzievski,
arXiv:2312.03732, for √r.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from so3krates_torch.blocks.euclidean_transformer import (
    EuclideanAttentionBlock,
    EuclideanAttentionBlockLORA,
)
from so3krates_torch.tools.finetune import model_to_lora

from aimspax_core.model.number_format import number_format
from aimspax_core.model.so3krates.heads import READOUT
from aimspax_core.settings.model import ModelSettings

_PARTS: Mapping[str, tuple[str, ...]] = {
    "embedding": (
        *("inv_feature_embedding.", "charge_embedding.", "spin_embedding."),
        "radial_embedding.",
    ),
    "zbl": ("zbl_repulsion.",),
    "hirshfeld": ("hirshfeld_output_block.",),
    "partial_charges": ("partial_charges_output_block.",),
    "shifts": ("atomic_energy_output_block.energy_shifts",),
    "scales": ("atomic_energy_output_block.energy_scales",),
}
"""How the names of a part's weights begin. The package's own function takes any name with
`embedding` in it, which those of charges and Hirshfeld ratios have, too."""

_OF_LORA = ("rank", "alpha", "scaling", "weights_fused")
"""Attributes that layers with LoRA have beside those without."""


def tuned(model: torch.nn.Module, settings: ModelSettings, seed: int) -> torch.nn.Module:
    """Return a model that trains what the settings ask for; it is changed in place.

    Args:
        model: A model without LoRA, all of its weights trained.
        settings: For the section TRAINING, and the number format.
        seed: Of the matrices A; torch's global random state is left as it was.
    """
    training = settings.TRAINING
    if training.uses_lora:
        _add_lora(model, settings, seed)
        # Heads that began as copies would stay alike beside LoRA.
        _freeze_but(model, (*(name for part in _PARTS.values() for name in part), *READOUT))
    frozen = tuple(name for part in training.frozen_parts for name in _PARTS[part])
    for name, weight in model.named_parameters():
        if frozen and name.startswith(frozen):
            weight.requires_grad_(False)
    return model


def fused(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model without LoRA, which is added to its weights; it is changed in place."""
    layers: Any = model.get_submodule("euclidean_transformers")
    for layer in layers:
        block = layer.euclidean_attention_block
        if isinstance(block, EuclideanAttentionBlockLORA):
            block.fuse_lora_weights()
            for name in _OF_LORA:
                delattr(block, name)
            block.__class__ = EuclideanAttentionBlock
    return model


def all_trained(model: torch.nn.Module) -> torch.nn.Module:
    """Return a model without LoRA whose weights can all be trained, as its package builds it."""
    model.requires_grad_(True)
    head: Any = model.get_submodule("atomic_energy_output_block")
    head.energy_shifts.requires_grad_(head.energy_learn_atomic_type_shifts)
    head.energy_scales.requires_grad_(head.energy_learn_atomic_type_scales)
    return model


def _add_lora(model: torch.nn.Module, settings: ModelSettings, seed: int) -> None:
    """Put LoRA into a model's layers.

    The package seeds all of torch's generators, those of GPUs too.
    """
    training = settings.TRAINING
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with number_format(settings.GENERAL.default_dtype), torch.random.fork_rng(devices=list(gpus)):
        model_to_lora(
            model,
            rank=training.lora_rank,
            alpha=training.lora_alpha,
            freeze_A=training.lora_freeze_A,
            seed=seed,
        )


def _freeze_but(model: torch.nn.Module, parts: tuple[str, ...]) -> None:
    """Train nothing but what LoRA has added and some parts, as far as they are trained at all."""
    for name, weight in model.named_parameters():
        added = name.rpartition(".")[2].startswith("lora_")
        if not added and not name.startswith(parts):
            weight.requires_grad_(False)
