"""MACE models in files: read, written, copied."""

from __future__ import annotations

import pickle
import threading
from copy import deepcopy
from pathlib import Path

import torch

from aimspax_core.errors import ModelError
from aimspax_core.model.checkpoint import write_atomically

model_lock = threading.Lock()
"""Held while a MACE model is built, unpickled or copied.

That traces and compiles code with torch.fx, which two threads must not do at the same time.
"""

_BROKEN = (pickle.UnpicklingError, RuntimeError, EOFError)
"""What `torch.load` raises for files that hold no pickled module."""

_OTHER_VERSION = (AttributeError, ImportError, LookupError, ValueError)
"""What `torch.load` raises for modules of another version of MACE."""


def copy_model(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of `model` on the CPU; copying unpickles, so it takes the lock."""
    with model_lock:
        return deepcopy(model).to("cpu")


def save_model(model: torch.nn.Module, path: Path) -> None:
    """Write `model` as MACE's `run_train` does: the whole module, on the CPU, trainable.

    The file loads in `mace.calculators.MACECalculator`. It appears complete or not at all.
    """
    ready = all(one.requires_grad and one.device.type == "cpu" for one in model.parameters())
    write_atomically(model if ready else copy_model(model).requires_grad_(True), path)


def load_model(path: Path, device: str = "cpu", dtype: str | None = None) -> torch.nn.Module:
    """Load a MACE `.model` file; it is a pickle, so only from a path that the user named.

    Args:
        path: File written by MACE or by `save_model`.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: "float32" or "float64"; none: as saved.

    Raises:
        ModelError: There is no such file, or it holds no MACE model.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no model file {path}")
    try:
        with model_lock:
            model = torch.load(path, map_location=device, weights_only=False)
    except (*_BROKEN, *_OTHER_VERSION) as error:
        raise ModelError(f"{path} is not a readable MACE model file: {error}") from error
    wanted = ("r_max", "atomic_numbers", "interactions", "atomic_energies_fn")
    if not isinstance(model, torch.nn.Module) or not all(hasattr(model, name) for name in wanted):
        raise ModelError(f"{path} holds no MACE model but a {type(model).__name__}")
    return model if dtype is None else model.to(getattr(torch, dtype))
