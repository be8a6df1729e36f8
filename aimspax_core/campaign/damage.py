"""Rules of files that are damaged or gone: what the campaign goes on from instead."""

from __future__ import annotations

from aimspax_core.campaign import convergence, exploration, trajectories
from aimspax_core.campaign.actions import Converge, Train
from aimspax_core.campaign.events import FileDamaged
from aimspax_core.campaign.members import MemberState
from aimspax_core.campaign.state import CampaignState, Phase

_AT_WORK = (Phase.INITIAL_CONVERGE, Phase.INITIAL_PUBLISH, Phase.CONVERGE, Phase.PUBLISH)
"""Phases in which a convergence counts; later ones go on from what it led to."""


def file_damaged(state: CampaignState, event: FileDamaged) -> CampaignState:
    """Go on from the file before; what that costs is trained or run again."""
    state = state.but(damaged_files=state.damaged_files + 1)
    match event.what:
        case "trajectory":
            state = trajectories.state_lost(state, int(event.which), int(event.name))
        case "sampler":
            state = _sampler_lost(state, int(event.which), int(event.name))
        case "checkpoint":
            state = _checkpoint_lost(state, event.which, event.name)
    if state.phase in (Phase.PUBLISH, Phase.INITIAL_PUBLISH):
        return convergence.to_publish(state, state.phase)
    return exploration.settle(state) if state.phase in (Phase.ACTIVE, Phase.DRAIN) else state


def given_model_is_lost(state: CampaignState) -> str:
    """Return why a campaign cannot go on: given models are not to be had again by training."""
    lost = [tag for tag, m in state.members.items() if m.checkpoint is None]
    if not state.adopted or state.adopting or not lost or state.phase is Phase.FINISHED:
        return ""
    return (
        f"no checkpoint of {', '.join(lost)} is left, and it began from a given model: begin anew "
        "with --fresh (labels that are there are not computed again)"
    )


def _sampler_lost(state: CampaignState, geometry: int, version: int) -> CampaignState:
    """Begin the next sampling step from the geometry, with new noise."""
    samplers = tuple(
        s.but(lost=True, restarts=s.restarts + 1)
        if (s.geometry, s.version, s.lost) == (geometry, version, False)
        else s
        for s in state.samplers
    )
    return state.but(samplers=samplers)


def _checkpoint_lost(state: CampaignState, tag: str, name: str) -> CampaignState:
    member = state.members[tag]
    # A task that goes on from the file has it in memory, or will find it damaged itself.
    used = any(
        isinstance(a, Train | Converge) and (a.tag, a.start) == (tag, name)
        for a in state.in_flight.values()
    )
    if not used:
        state = _set_back(state, tag, name)
    member = state.members[tag]
    left = (member.checkpoint, *(e.checkpoint for e in member.earlier))
    instead = next((other for other in left if other not in (None, name)), "")
    position = list(state.members).index(tag)
    ensemble = tuple(
        str(instead) if (i, now) == (position, name) else now
        for i, now in enumerate(state.ensemble)
    )
    return state.but(ensemble=ensemble)


def _set_back(state: CampaignState, tag: str, name: str) -> CampaignState:
    """Return the state with a member set back to the checkpoint before the one that is lost."""
    member = state.members[tag]
    before = member.epochs
    converging = member.converging == name
    member = _trained_before(member, name)
    lost = before - member.epochs
    if state.round is not None:
        member = member.but(round_epochs=member.round_epochs - lost)
    else:
        member = member.but(owed=member.owed + lost)
    if converging:
        member = _converged_before(member)
    state = state.but(members={**state.members, tag: member})
    phase = state.phase
    if converging and phase is Phase.PUBLISH:
        return state.but(phase=Phase.CONVERGE)
    if converging and phase is Phase.INITIAL_PUBLISH:
        return state.but(phase=Phase.INITIAL_CONVERGE)
    if converging and phase not in _AT_WORK:
        member = member.but(converging=None, converged=False, converge_epochs=0, best=None)
        return state.but(members={**state.members, tag: member})
    return state


def _trained_before(member: MemberState, name: str) -> MemberState:
    """Return a member as it was at its checkpoint before, or untrained if there is none."""
    earlier = tuple(e for e in member.earlier if e.checkpoint != name)
    if member.checkpoint != name:
        return member.but(earlier=earlier)
    member = member.but(setbacks=member.setbacks + 1)
    if not earlier:
        return member.but(checkpoint=None, epochs=0, errors=None, earlier=())
    to = earlier[0]
    return member.but(
        checkpoint=to.checkpoint, epochs=to.epochs, errors=to.errors, earlier=earlier[1:]
    )


def _converged_before(member: MemberState) -> MemberState:
    """Return a member as it was a stretch of its convergence ago, or about to begin with it."""
    to = member.converge_earlier
    return member.but(
        converging=member.checkpoint if to is None else to.checkpoint,
        converge_epochs=0 if to is None else to.epochs,
        best=None if to is None else to.errors,
        converged=False,
        converge_earlier=None,
        setbacks=member.setbacks + 1,
    )
