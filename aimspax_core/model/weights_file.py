"""Weights by name in a file: a state dict of torch, bare or in a checkpoint of MACE's kind."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from aimspax_core.errors import WeightsError

_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, KeyError)


def weights_of(file: Path) -> Mapping[str, torch.Tensor]:
    """Return what a file holds, without running anything of it.

    Args:
        file: A state dict, or a dictionary with one as `model`, as MACE's `run_train` and
            so3krates-torch write their checkpoints.

    Raises:
        WeightsError: It holds no such thing.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # with pages of advice to run what is in it
        raise WeightsError(
            f"{file} holds no weights by name (a state dict), but other objects, such as a whole "
            "model, which `pretrained_model` names"
            if "Unsupported global" in str(error)
            else f"{file} holds no weights that can be read: torch has not written it so"
        ) from error
    except _UNREADABLE as error:
        raise WeightsError(f"{file} holds no weights that can be read: {error}") from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(state, dict):
        raise WeightsError(f"{file} holds no weights by name but a {type(state).__name__}")
    return state
