"""MACE models with two heads: a member's own, and that of the data its model was trained on before.

Frames of those data (replay) are trained on beside the labels, by a head that keeps their energies:
the layers that both heads share forget less. Published models have the member's own head alone.
Source: `mace.cli.run_train` (multihead fine-tuning), `mace.tools.scripts_utils.remove_pt_head`;
Batatia et al., arXiv:2401.00096.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from mace.tools.scripts_utils import remove_pt_head

from aimspax_core.model.mace.graphs import HEAD
from aimspax_core.model.mace.model_files import model_lock
from aimspax_core.model.mace.product_basis import couplings, is_reduced
from aimspax_core.model.number_format import number_format


def with_one_head(model: torch.nn.Module, head: str = HEAD) -> torch.nn.Module:
    """Return the model with one head alone: itself, if it has no other.

    Args:
        model: A model of one head or several.
        head: Which is kept; a member's own unless named.
    """
    held: Any = model
    if len(getattr(held, "heads", None) or [HEAD]) == 1:
        return model
    dtype = next(model.parameters()).dtype
    with (
        model_lock,
        number_format(str(dtype).removeprefix("torch.")),
        couplings(reduced=is_reduced(model.state_dict())),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        # As in `build`: from e3nn, and the user can do nothing about them.
        warnings.filterwarnings("ignore", message="The TorchScript type system")
        single: torch.nn.Module = remove_pt_head(held, head)
    return single
