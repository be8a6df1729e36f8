"""How far a campaign is, and when it may end."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aimspax_core.campaign.state import CampaignState, Phase

_TITLES = {
    Phase.ADOPT: "taking over members and datasets",
    Phase.INITIAL: "initial dataset",
    Phase.INITIAL_CONVERGE: "initial convergence",
    Phase.INITIAL_PUBLISH: "writing initial results",
    Phase.READY: "initial dataset done",
    Phase.ACTIVE: "active learning",
    Phase.DRAIN: "waiting for the last labels",
    Phase.CONVERGE: "convergence",
    Phase.PUBLISH: "writing results",
    Phase.FINISHED: "finished",
    Phase.FAILED: "failed",
}


@dataclass(frozen=True)
class Progress:
    """How far a campaign is.

    Attributes:
        title: The phase, in words.
        fraction: Share of the phase that is done, by whichever of its limits is nearest; None if
            nothing bounds it.
        told: What has been reached, in words.
    """

    title: str
    fraction: float | None
    told: str


def progress(state: CampaignState, max_convergence_epochs: int) -> Progress:
    """Return how far a campaign is in its present phase."""
    phase = state.failed_in or state.phase
    fraction: float | None = 1.0
    if phase is Phase.ADOPT:
        fraction = None
    elif phase is Phase.INITIAL:
        fraction = _initial(state)
    elif phase is Phase.ACTIVE:
        fraction = _active(state)
    elif phase in (Phase.CONVERGE, Phase.INITIAL_CONVERGE):
        members = [m for m in state.members.values() if m.converging is not None]
        done = [1.0 if m.converged else m.converge_epochs / max_convergence_epochs for m in members]
        fraction = sum(done) / len(done) if done else None
    return Progress(_TITLES[state.phase], fraction, told(state))


def told(state: CampaignState) -> str:
    """Return what a campaign has reached, in one line."""
    parts = [f"{state.labels} labels"]
    if state.failed_labels:
        parts.append(f"{state.failed_labels} failed")
    if state.refused:
        parts.append(f"{state.refused} refused by the gate")
    parts.append(f"training set {state.training_set_size}")
    if state.mean_force_mae is not None:
        parts.append(f"force MAE {1000 * state.mean_force_mae:.1f} meV/Å")
    if state.phase in (Phase.CONVERGE, Phase.PUBLISH, Phase.FINISHED):
        best = [m.best.mae_f for m in state.members.values() if m.best is not None]
        if best:
            parts.append(f"converged {1000 * min(best):.1f} meV/Å")
    return ", ".join(parts)


def _initial(state: CampaignState) -> float | None:
    rules = state.rules
    epochs = min(m.epochs for m in state.members.values())
    done = [epochs / rules.max_initial_epochs, state.labels / rules.max_initial_set_size]
    done.append(_towards(state.mean_force_mae, rules.initial_accuracy))
    return _nearest(done)


def _active(state: CampaignState) -> float | None:
    rules = state.rules
    steps = sum(t.step for t in state.trajectories) / max(1, len(state.trajectories))
    done = [state.training_set_size / rules.max_train_set_size, steps / rules.max_md_steps]
    done.append(_towards(state.mean_force_mae, rules.desired_acc))
    return _nearest(done)


def _towards(error: float | None, goal: float) -> float:
    """How near an error is to its goal; errors fall roughly as a power of the work done."""
    start = 1.0  # eV/Å: about what an untrained ensemble shows
    if error is None or goal <= 0 or error >= start:
        return 0.0
    return math.log(start / error) / math.log(start / goal) if error > goal else 1.0


def _nearest(done: list[float]) -> float | None:
    best = max(done)
    return min(1.0, best) if best > 0 else None
