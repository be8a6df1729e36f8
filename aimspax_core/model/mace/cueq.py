"""NVIDIA's cuEquivariance kernels: models converted to them and back, as MACE itself does it.

Source: `mace.cli.convert_e3nn_cueq`, `mace.cli.convert_cueq_e3nn`, `mace.cli.run_train`.
"""

from __future__ import annotations

from typing import Any

import torch

from aimspax_core.errors import ModelError
from aimspax_core.model.mace.model_files import model_lock
from aimspax_core.model.number_format import number_format
from aimspax_core.settings.families.mace import why_no_cueq
from aimspax_core.settings.model import ModelSettings


def kernels(settings: ModelSettings) -> str:
    """Return whose weights members train and checkpoints hold: those of `e3nn` or of `cueq`."""
    return "cueq" if settings.MISC.enable_cueq else "e3nn"


def to_cueq(model: torch.nn.Module, settings: ModelSettings) -> torch.nn.Module:
    """Return the model for cuEquivariance if `MISC.enable_cueq` asks for it, else as it is.

    Raises:
        ModelError: cuEquivariance cannot be used.
    """
    if not settings.MISC.enable_cueq:
        return model
    obstacle = why_no_cueq(settings)
    if obstacle is not None:
        raise ModelError(f"MISC.enable_cueq: {obstacle}")
    from mace.cli.convert_e3nn_cueq import run

    # MACE compares the name with "cuda"; which of several GPUs is settled by the caller's `to`.
    device = torch.device(settings.MISC.device).type
    return _converted(run, model.to(device), device, settings)


def to_e3nn(model: torch.nn.Module, settings: ModelSettings) -> torch.nn.Module:
    """Return a model on the CPU with e3nn's weights, which loads anywhere."""
    if not settings.MISC.enable_cueq:
        return model
    from mace.cli.convert_cueq_e3nn import run

    return _converted(run, model, "cpu", settings)


def _converted(
    run: Any, model: torch.nn.Module, device: str, settings: ModelSettings
) -> torch.nn.Module:
    """Convert; MACE builds a model anew for it, and sets torch's number format for good."""
    dtype = settings.GENERAL.default_dtype
    with model_lock, number_format(dtype), torch.random.fork_rng(devices=[]):
        try:
            return run(model, device=device)
        except (AttributeError, KeyError, NotImplementedError, RuntimeError) as error:
            raise ModelError(
                f"MACE cannot convert this ARCHITECTURE for MISC.enable_cueq: {error}"
            ) from error
