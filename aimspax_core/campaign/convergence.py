"""Rules of the convergence at the end of a phase."""

from __future__ import annotations

from aimspax_core.campaign.actions import Action, Converge
from aimspax_core.campaign.events import ConvergenceAdvanced
from aimspax_core.campaign.rounds import ensemble_of
from aimspax_core.campaign.state import CampaignState, Phase


def begin(state: CampaignState, phase: Phase, tags: tuple[str, ...]) -> CampaignState:
    """Converge the named members; they begin from their last checkpoints of training."""
    members = {
        tag: m.but(converging=m.checkpoint) if tag in tags else m.but(converged=True)
        for tag, m in forgotten(state).members.items()
    }
    return state.but(phase=phase, members=members)


def forgotten(state: CampaignState) -> CampaignState:
    """Return the state with no member converged or converging."""
    members = {
        tag: member.but(converging=None, converged=False, converge_epochs=0, best=None)
        for tag, member in state.members.items()
    }
    return state.but(members=members)


def actions(state: CampaignState) -> list[Action]:
    """Return the next task of every member that has not converged."""
    stage = "initial" if state.phase is Phase.INITIAL_CONVERGE else "final"
    return [
        Converge(
            tag=member.tag,
            stage=stage,
            start=member.converging,
            first=member.converge_epochs == 0,
            checkpoint=f"converge-{stage}-{member.epochs}-{member.converge_epochs}",
        )
        for member in state.members.values()
        if not member.converged and member.converging is not None
    ]


def advanced(state: CampaignState, event: ConvergenceAdvanced) -> CampaignState:
    """Record how far a member has converged; publish when all members have."""
    member = state.members[event.tag]
    member = member.but(
        converging=event.checkpoint,
        converged=event.converged,
        converge_epochs=member.converge_epochs + event.epochs,
        best=event.best,
    )
    initial = Phase.INITIAL_CONVERGE in (state.phase, state.failed_in)
    if event.converged and initial:
        # Active learning goes on from the converged weights.
        member = member.but(checkpoint=event.checkpoint, errors=event.best)
    state = state.but(members={**state.members, event.tag: member})
    if not all(m.converged for m in state.members.values()):
        return state
    if initial:
        return ensemble_of(state.but(phase=Phase.INITIAL_PUBLISH))
    return state.but(phase=Phase.PUBLISH)
