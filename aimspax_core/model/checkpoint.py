"""The file of a member in training: plain containers and tensors, never a pickled class."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aimspax_core.errors import ModelError
from aimspax_core.model.mace.learner import Metrics

if TYPE_CHECKING:
    from aimspax_core.model.member import Member

FORMAT = 1
"""Number of the format; a file with another is refused."""

_COUNTERS = (
    "epoch",
    "total_epochs",
    "best_valid_loss",
    "validations_without_improvement",
    "last_improvement",
)
_LATER = {"stage_two_from": None, "keeps_energies": False}
"""What checkpoints have had since later, with what it was before."""


def state_of(member: Member) -> dict[str, Any]:
    """Return all that a member needs to go on.

    Raises:
        ModelError: The weights are not finite.
    """
    return {
        "format": FORMAT,
        "dtype": member.settings.GENERAL.default_dtype,
        "tag": member.tag,
        "seed": member.seed,
        "elements": member.elements,
        "constants": asdict(member.constants),
        "stage": member.stage.value,
        "counters": {name: getattr(member, name) for name in _COUNTERS},
        **{name: getattr(member, name) for name in _LATER},
        "learner": member.learner.state_dict(),
        "best_weights": member.best_weights,
        "best_metrics": None if member.best_metrics is None else asdict(member.best_metrics),
    }


def restore(member: Member, state: dict[str, Any]) -> None:
    """Put a member that has just entered the stage where `state_of` found it.

    Raises:
        KeyError, RuntimeError, ValueError: The state is of another architecture or training.
    """
    member.learner.load_state_dict(state["learner"])
    for name in _COUNTERS:
        setattr(member, name, state["counters"][name])
    for name, before in _LATER.items():
        setattr(member, name, state.get(name, before))
    member.best_weights = state["best_weights"]
    best = state["best_metrics"]
    member.best_metrics = None if best is None else Metrics(**best)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `Member.save` wrote, without building the member.

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
