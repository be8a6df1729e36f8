"""Stopping rules of both phases: the ensemble's validation force MAE is small enough."""

from __future__ import annotations

import math

from aimspax_core.stopping.rule import Campaign, Key, Rule

UNTRAINED = 1.0
"""About what an untrained ensemble shows (force MAE, eV/Å)."""

_KEY = Key(
    "desired_acc",
    "accuracy",
    "Force MAE (eV/Å) in validation that ends the phase; 0: none does.",
)


def _progress(campaign: Campaign, goal: float) -> float:
    """Errors fall roughly as a power of the work done: count their logarithm."""
    error = campaign.mean_force_mae
    if error is None or goal <= 0 or error >= UNTRAINED:
        return 0.0
    return math.log(UNTRAINED / error) / math.log(UNTRAINED / goal) if error > goal else 1.0


def _initial_reason(campaign: Campaign, goal: float) -> str | None:
    error = campaign.mean_force_mae
    if error is None or error > goal:
        return None
    return f"validation force MAE {error:.4f} eV/Å reached {goal:.4f} eV/Å"


def _reason(campaign: Campaign, goal: float) -> str | None:
    error = campaign.mean_force_mae
    if error is None or error >= goal or not campaign.explored:
        return None
    return f"validation force MAE {error:.4f} eV/Å is below {goal:.4f} eV/Å"


INITIAL_ACCURACY = Rule(
    name="initial_accuracy",
    stage="initial",
    key=_KEY,
    reason=_initial_reason,
    progress=_progress,
    text=lambda goal: f"the validation force MAE is {1000 * goal:g} meV/Å",
    limit_of=lambda section: section.desired_acc * section.desired_acc_scale_idg,
    goal="goal of the initial dataset",
    judges_errors=True,
)

DESIRED_ACC = Rule(
    name="desired_acc",
    stage="active",
    key=_KEY,
    reason=_reason,
    progress=_progress,
    text=lambda goal: f"the validation force MAE is below {1000 * goal:g} meV/Å",
    goal="desired_acc",
    judges_errors=True,
)
