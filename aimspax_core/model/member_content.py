"""What a member's checkpoint holds: all that it needs to go on elsewhere, in plain containers."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Any, Protocol

import torch

from aimspax_core.model.family import Constants
from aimspax_core.model.learner import Learner, Metrics
from aimspax_core.model.schedule import Progress
from aimspax_core.settings.model import ModelSettings

_COUNTERS = (*("epoch", "best_valid_loss", "validations_without_improvement", "last_improvement"),)
"""What a checkpoint has of `Progress` among its counters."""


class Member(Protocol):
    """What of a member goes into its checkpoint; see `member.Member`."""

    settings: ModelSettings
    tag: str
    seed: int
    elements: list[int]
    constants: Constants
    learner: Learner
    progress: Progress
    total_epochs: int
    keeps_energies: bool
    keeps_scaling: bool
    solved_on: str
    settled: bool
    best_weights: dict[str, torch.Tensor] | None
    best_metrics: Metrics | None

    @property
    def stage(self) -> StrEnum:
        """What it is trained for."""


def content_of(member: Member) -> dict[str, Any]:
    """Return all that a member needs to go on.

    Raises:
        ModelError: The weights are not finite.
    """
    counters = {name: getattr(member.progress, name) for name in _COUNTERS}
    return {
        "dtype": member.settings.GENERAL.default_dtype,
        "tag": member.tag,
        "seed": member.seed,
        "elements": member.elements,
        "constants": asdict(member.constants),  # type: ignore[call-overload]
        "stage": member.stage.value,
        "counters": counters | {"total_epochs": member.total_epochs},
        "stage_two_from": member.progress.stage_two_from,
        "keeps_energies": member.keeps_energies,
        "keeps_scaling": member.keeps_scaling,
        "solved_on": member.solved_on,
        "settled": member.settled,
        "learner": member.learner.state_dict(),
        "best_weights": member.best_weights,
        "best_metrics": None if member.best_metrics is None else asdict(member.best_metrics),
    }


def restore(member: Member, content: dict[str, Any]) -> None:
    """Have a member, in a stage that it has just entered, go on where `content_of` was asked.

    Raises:
        KeyError, RuntimeError, ValueError: The content is of another architecture or training.
    """
    member.learner.load_state_dict(content["learner"])
    counters = content["counters"]
    # The first checkpoints did not have these five.
    member.keeps_energies = content.get("keeps_energies", False)
    member.keeps_scaling = content.get("keeps_scaling", False)
    member.solved_on = content.get("solved_on", "")
    member.settled = content.get("settled", True)
    counted = {name: counters[name] for name in _COUNTERS}
    member.progress = Progress(**counted, stage_two_from=content.get("stage_two_from"))
    member.total_epochs = counters["total_epochs"]
    member.best_weights = content["best_weights"]
    best = content["best_metrics"]
    member.best_metrics = None if best is None else Metrics(**best)
