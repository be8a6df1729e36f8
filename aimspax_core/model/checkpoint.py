"""The file of a member in training: plain containers and tensors, never a pickled class."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from aimspax_core.errors import ModelError
from aimspax_core.safe_files import replacing

FORMAT = 1
"""Number of the format; a file with another is refused."""


def write_atomically(payload: Any, path: Path) -> None:
    """`torch.save` to a file that appears complete or not at all."""
    with replacing(Path(path)) as aside, aside.open("wb") as file:
        torch.save(payload, file)


def write_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write the state of a member: tensors, numbers, texts, lists and dictionaries only."""
    write_atomically({"format": FORMAT, **state}, path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `write_checkpoint` wrote, without building the member.

    Raises:
        ModelError: There is no such file, or it is no checkpoint of this version.
    """
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ModelError(f"{path} is not a readable checkpoint: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ModelError(f"{path} is not a checkpoint of this version")
    return state
