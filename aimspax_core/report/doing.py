"""What a campaign is doing at the moment, and what comes next, in words."""

from __future__ import annotations

from collections.abc import Iterator

from aimspax_core.campaign.actions import (
    Adopt,
    Assess,
    Converge,
    Label,
    Propagate,
    Publish,
    Sample,
    Train,
)
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.text import and_list, number_of


def doing_text(state: CampaignState | None) -> str:
    """Return what is under way in a campaign that runs.

    Args:
        state: The campaign's; None before its first event.
    """
    parts = "" if state is None else under_way(state)
    return f"under way: {parts}" if parts else "workers are starting"


def under_way(state: CampaignState) -> str:
    """Return the work that has been launched and has not come back; empty if there is none."""
    parts = [*_under_way(state)]
    return and_list(parts) if parts else ""


def next_text(state: CampaignState) -> str:
    """Return what follows while a campaign has no errors or no uncertainties to show; else nothing.

    Args:
        state: The campaign.
    """
    match state.phase:
        case Phase.ADOPT:
            return "MD; labels of what the models are unsure of"
        case Phase.INITIAL if state.rounds == 0:
            if any(isinstance(action, Train) for action in state.in_flight.values()):
                return "first errors, and the learning curve"
            return "training, then errors and the learning curve"
        case Phase.ACTIVE if not state.window.count:
            return "checks of the uncertainty; labels where it is large"
    return ""


def _under_way(state: CampaignState) -> Iterator[str]:
    actions = tuple(state.in_flight.values())

    def count(kind: type) -> int:
        return sum(isinstance(action, kind) for action in actions)

    if samples := count(Sample):
        yield f"sampling MD of {number_of(samples, 'geometry', 'geometries')}"
    moving = sum(len(a.trajectories) for a in actions if isinstance(a, Propagate))
    if moving:
        yield f"MD of {number_of(moving, 'trajectory', 'trajectories')}"
    if labels := count(Label):
        yield number_of(labels, "label")
    if trainings := count(Train):
        yield f"training of {number_of(trainings, 'member')}"
    for tag in sorted({a.tag for a in actions if isinstance(a, Converge)}):
        yield f"convergence of {tag} ({state.members[tag].converge_epochs} epochs so far)"
    for kind, what in (
        (Adopt, "taking over the models that were given"),
        (Assess, "errors on the held-out set"),
        (Publish, "writing models and datasets"),
    ):
        if count(kind):
            yield what
