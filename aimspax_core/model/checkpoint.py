"""The file of a member in training: plain containers and tensors, never a pickled class."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from aimspax_core.errors import DamagedError, ModelError, NewerReleaseError
from aimspax_core.model.intact import intact_bytes, sealed
from aimspax_core.safe_files import replacing
from aimspax_core.versions import release

FORMAT = 1
"""Number of the format; a file with a higher one is refused."""


def write_atomically(payload: Any, path: Path) -> None:
    """`torch.save` to a file that appears complete or not at all."""
    with replacing(Path(path)) as aside, aside.open("wb") as file:
        torch.save(payload, file)


def write_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write the state of a member: tensors, numbers, texts, lists and dictionaries only."""
    archive = io.BytesIO()
    torch.save({"format": FORMAT, "aimspax": release(), **state}, archive)
    with replacing(Path(path)) as aside:
        aside.write_bytes(sealed(archive.getvalue()))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `write_checkpoint` wrote, without building the member.

    Raises:
        DamagedError: There is no such file, or it is not as it was written.
        ModelError: It is no checkpoint of a member.
        NewerReleaseError: A newer release has written it.
    """
    content = intact_bytes(path)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DamagedError.of(path, f"not a readable checkpoint ({error})") from error
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise ModelError(f"{path} is no checkpoint of a member")
    if state["format"] > FORMAT:
        raise NewerReleaseError.of(path, state.get("aimspax", ""))
    return state
