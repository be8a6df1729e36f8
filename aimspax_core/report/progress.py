"""How far a campaign is, and when it may end."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aimspax_core.campaign.assessing import converged_errors
from aimspax_core.campaign.state import CampaignState, Pause, Phase, TrajectoryStatus
from aimspax_core.campaign.stopping import outlooks
from aimspax_core.stopping.rule import Stage

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

AFTER = (Phase.CONVERGE, Phase.PUBLISH, Phase.FINISHED)
"""Phases in which exploring is over."""

STAGES: dict[Phase, Stage] = {Phase.INITIAL: "initial", Phase.ACTIVE: "active"}
"""Phases that stopping rules end."""


_DOES = {
    TrajectoryStatus.RUNNING: "ready for MD",
    TrajectoryStatus.IN_SEGMENT: "in MD",
    TrajectoryStatus.WAITING: "waiting for a label",
    TrajectoryStatus.TRAINING: "waiting for training",
    TrajectoryStatus.FINISHED: "finished",
    TrajectoryStatus.FAILED: "given up",
}


def status_text(status: TrajectoryStatus) -> str:
    """Return what a trajectory does, in words."""
    return _DOES[status]


def title_of(phase: Phase) -> str:
    """Return a phase in words."""
    return _TITLES[phase]


@dataclass(frozen=True)
class Progress:
    """How far a campaign is.

    Attributes:
        title: The phase, in words.
        fraction: Share of the phase that is done, by whichever of its limits is nearest; None if
            nothing bounds it.
        reached: What has been reached, in words.
    """

    title: str
    fraction: float | None
    reached: str


def progress(state: CampaignState, max_convergence_epochs: int) -> Progress:
    """Return how far a campaign is in its present phase."""
    phase = state.failed_in or state.phase
    fraction: float | None = 1.0
    if phase is Phase.ADOPT:
        fraction = None
    elif phase in STAGES:
        fraction = _nearest(state, STAGES[phase])
    elif phase in (Phase.CONVERGE, Phase.INITIAL_CONVERGE):
        members = [m for m in state.members.values() if m.converging is not None]
        done = [1.0 if m.converged else m.converge_epochs / max_convergence_epochs for m in members]
        fraction = sum(done) / len(done) if done else None
    title = _TITLES[state.phase] + (", paused" if state.paused is not None else "")
    return Progress(title, fraction, progress_text(state))


def paused_text(pause: Pause) -> str:
    """Return since when a campaign is paused, and by whom."""
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(pause.since))
    return f"paused since {since} by {pause.by}: nothing new begins"


def progress_text(state: CampaignState) -> str:
    """Return what a campaign has reached, in one line."""
    parts = [f"{state.labels} labels"]
    if state.failed_labels:
        parts.append(f"{state.failed_labels} failed")
    if state.refused:
        parts.append(f"{state.refused} refused by the gate")
    if passed_over := sum(state.candidates_refused.values()):
        parts.append(f"{passed_over} candidates passed over")
    counted = (
        (state.trajectories_given_up, "trajectory given up", "trajectories given up"),
        (state.damaged_files, "damaged file", "damaged files"),
        (
            sum(t.begun_anew for t in state.trajectories),
            "restart from a label",
            "restarts from labels",
        ),
        (state.divergences, "divergence of training", "divergences of training"),
    )
    parts += [f"{n} {one if n == 1 else more}" for n, one, more in counted if n]
    parts.append(f"training set {state.training_set_size}")
    return ", ".join((*parts, *_errors(state)))


def _errors(state: CampaignState) -> list[str]:
    """Return the force errors of the best member that converges, or else the mean of all.

    Of what is published they are those of the models as they are there.
    """
    of, mae, held_out = "", state.mean_force_mae, _held_out(state)
    if state.phase in (Phase.CONVERGE, Phase.PUBLISH, Phase.FINISHED):
        members = [m for m in state.members.values() if m.best is not None]
        known = {m.tag: m.last_errors.mae_f for m in members if m.last_errors is not None}
        if known:
            tag = min(known, key=lambda tag: known[tag])
            assessed = converged_errors(state).get(tag)
            mae, held_out = known[tag], assessed.mae_f if assessed is not None else None
            of = f"{tag} {'converged' if state.members[tag].converged else 'converging'}: "
        elif state.phase is not Phase.CONVERGE:
            mae = _as_published(state)
    parts = [] if mae is None else [f"{of}force MAE {1000 * mae:.1f} meV/Å"]
    if held_out is not None:
        parts.append(f"on the held-out set {1000 * held_out:.1f} meV/Å")
    return parts


def _as_published(state: CampaignState) -> float | None:
    """Return the mean force MAE (eV/Å) of models as they are published; None: not all are known."""
    found = [m.last_errors.mae_f for m in state.members.values() if m.last_errors is not None]
    return sum(found) / len(found) if found and len(found) == len(state.members) else None


def _held_out(state: CampaignState) -> float | None:
    """Return the members' mean error on the held-out set (eV/Å)."""
    found = [m.assessed.mae_f for m in state.members.values() if m.assessed is not None]
    return sum(found) / len(found) if found else None


def limits_text(state: CampaignState) -> list[str]:
    """Return a line on each stopping rule that may end the present phase."""
    stage = STAGES.get(state.phase)
    if stage is None:
        return []
    return [
        f"ends when {outlook.rule.text(outlook.limit)}: {outlook.progress:.0%}"
        for outlook in outlooks(state, stage)
    ]


def _nearest(state: CampaignState, stage: Stage) -> float | None:
    """Return the progress towards the nearest limit; None if nothing has been reached of any."""
    return max((outlook.progress for outlook in outlooks(state, stage)), default=0.0) or None
