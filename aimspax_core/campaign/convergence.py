"""Rules of the convergence at the end of a phase."""

from __future__ import annotations

from aimspax_core.campaign import assessing, final_sets, rounds
from aimspax_core.campaign.actions import Action, Converge
from aimspax_core.campaign.events import ConvergenceAdvanced
from aimspax_core.campaign.members import Earlier, MemberState
from aimspax_core.campaign.rounds import MAX_DIVERGED
from aimspax_core.campaign.state import CampaignState, Phase


def begin(state: CampaignState, phase: Phase, tags: tuple[str, ...]) -> CampaignState:
    """Converge the named members; they begin from their last checkpoints of training."""
    members = {
        tag: m.but(converging=m.checkpoint) if tag in tags else m.but(converged=True)
        for tag, m in forgotten(state).members.items()
    }
    on = final_sets.wanted(state) if phase is Phase.CONVERGE else "own"
    return state.but(phase=phase, members=members, converging_on=on)


def forgotten(state: CampaignState) -> CampaignState:
    """Return the state with no member converged or converging."""
    members = {
        tag: member.but(
            converging=None,
            converged=False,
            converge_epochs=0,
            best=None,
            converge_earlier=None,
            settled=None,
        )
        for tag, member in state.members.items()
    }
    return state.but(members=members, converging_on="own")


def actions(state: CampaignState) -> list[Action]:
    """Return the next task of every member that has not converged."""
    stage = "initial" if state.phase is Phase.INITIAL_CONVERGE else "final"
    return [
        Converge(
            tag=member.tag,
            stage=stage,
            start=member.converging,
            first=member.converge_epochs == 0,
            checkpoint=f"converge-{stage}-{member.epochs}-{member.converge_epochs}{member.suffix}",
            again=member.diverged,
            on=state.converging_on,
        )
        for member in state.members.values()
        if not member.converged
    ]


def advanced(state: CampaignState, event: ConvergenceAdvanced) -> CampaignState:
    """Record how far a member has converged; publish when all members have."""
    member = state.members[event.tag]
    member = member.but(
        converge_earlier=_earlier_of(member),
        converging=event.checkpoint,
        converged=event.converged,
        converge_epochs=member.converge_epochs + event.epochs,
        best=event.best,
        diverged=0,
        offsets=event.offsets if event.converged else member.offsets,
        settled=None,
    )
    return _published_if_all_have(_with(state, member))


def diverged(state: CampaignState, tag: str) -> CampaignState:
    """Count that a member's convergence diverged; after several in a row it ends with its best.

    If it has no epoch that went well, the member stays as it ended its last round.
    """
    member = state.members[tag]
    member = member.but(diverged=member.diverged + 1)
    state = state.but(divergences=state.divergences + 1)
    if member.diverged < MAX_DIVERGED or member.converging is None:
        return state.but(members={**state.members, tag: member})
    return _published_if_all_have(_with(state, member.but(diverged=0, converged=True)))


def to_publish(state: CampaignState, phase: Phase) -> CampaignState:
    """Go on to publishing, as soon as no member owes epochs that it is published with."""
    state = rounds.make_up(state.but(phase=phase))
    return _assessing(state) if phase is Phase.PUBLISH and state.round is None else state


def _assessing(state: CampaignState) -> CampaignState:
    """Have the models assessed that are published, where they are not those of the last round."""
    published = {
        tag: str(m.converging if m.converge_epochs else m.checkpoint)
        for tag, m in state.members.items()
    }
    if state.assessments and tuple(published.values()) == state.ensemble:
        return state
    return assessing.note(state, published, assessing.labels_used(state))


def initial(state: CampaignState) -> bool:
    """Return whether it is the convergence of the initial dataset that is under way."""
    return Phase.INITIAL_CONVERGE in (state.phase, state.failed_in)


def _with(state: CampaignState, member: MemberState) -> CampaignState:
    """Take a member in; active learning goes on from weights that converged at its beginning."""
    if member.converged and member.converge_epochs and initial(state):
        member = member.but(
            earlier=rounds.earlier_of(state, member),
            checkpoint=member.converging,
            errors=member.best,
        )
    return state.but(members={**state.members, member.tag: member})


def _earlier_of(member: MemberState) -> Earlier | None:
    """Return what a convergence can fall back to once it has a newer checkpoint."""
    if member.converging is None or not member.converge_epochs:
        return None  # then it begins again
    return Earlier(checkpoint=member.converging, epochs=member.converge_epochs, errors=member.best)


def _published_if_all_have(state: CampaignState) -> CampaignState:
    if not all(m.converged for m in state.members.values()):
        return state
    if initial(state):
        return to_publish(rounds.ensemble_of(state), Phase.INITIAL_PUBLISH)
    return to_publish(state, Phase.PUBLISH)
