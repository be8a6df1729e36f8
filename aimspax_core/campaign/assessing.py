"""Rules of the held-out set: models are assessed by it after each round, which steers nothing.

Judging waits for a worker that has nothing else to do, so that nobody waits for it. Only where
several ensembles wait to be assessed does one of them go before MD: their checkpoints are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from aimspax_core.campaign import final_sets
from aimspax_core.campaign.actions import Action, Assess, Label, task_of
from aimspax_core.campaign.events import Assessed, TaskLost
from aimspax_core.campaign.flight import landed, tries_of, work_of
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.state import CampaignState, Unassessed
from aimspax_core.labels import tries
from aimspax_core.labels.tries import GiveUp

MOST_UNASSESSED = 4
"""As many ensembles may wait for an idle worker."""


def labels_used(state: CampaignState) -> int:
    """Return the number of labels that models have seen; in a round, those that it trains on."""
    sets = [final_sets.seen(state, tag) for tag in state.members]
    return len({key for one in sets for key in (*one.training, *one.validation)})


def note(state: CampaignState, checkpoints: dict[str, str], labels: int) -> CampaignState:
    """Have models assessed once there is time.

    Args:
        state: The campaign.
        checkpoints: The models, by tag.
        labels: How many they have seen, all together.
    """
    if not state.rules.assessed or any(one.checkpoints == checkpoints for one in state.unassessed):
        return state
    new = Unassessed(number=state.assessments + 1, labels=labels, checkpoints=checkpoints)
    return state.but(unassessed=(*state.unassessed, new), assessments=new.number)


def urgent(state: CampaignState) -> list[Action]:
    """Return the assessing that goes before MD, if too much waits."""
    return _next(state) if len(state.unassessed) > MOST_UNASSESSED else []


def idle(state: CampaignState, wanted: Sequence[Action]) -> list[Action]:
    """Return the assessing that a worker without other work may do.

    Args:
        state: The campaign.
        wanted: All else that is to run now.
    """
    begun = (a for a in (*wanted, *state.in_flight.values()) if not isinstance(a, Label))
    free = state.rules.max_segments - len({task_of(action) for action in begun})
    return _next(state) if free > 0 else []


def last(state: CampaignState) -> list[Action]:
    """Return what is left to be assessed before the results are written; one after another.

    The list has what is under way, too, which is waited for.
    """
    under_way: list[Action] = [a for a in state.in_flight.values() if isinstance(a, Assess)]
    return under_way or _next(state)


def assessed(state: CampaignState, event: Assessed) -> CampaignState:
    """Take errors on the held-out set in."""
    state = landed(state, event.action_id)
    models = next((one.checkpoints for one in state.unassessed if one.number == event.number), {})
    members = {
        tag: m.but(
            assessed=event.errors[tag],
            assessed_at=models.get(tag),
            assessed_by={name: errors[tag] for name, errors in event.by_geometry.items()},
        )
        for tag, m in state.members.items()
    }
    return _without(state.but(members=members), event.number)


def lost(state: CampaignState, action: Assess, event: TaskLost) -> CampaignState:
    """Assess again, or let it be: a campaign does not end because of it."""
    if event.final:
        return _without(state, action.number)
    if not event.counted:
        return state
    known = tries_of(state, action.id).lost(event.fate)
    state = state.but(losses={**state.losses, work_of(action.id): known})
    given_up = isinstance(tries.after(known, event.fate, tries.TASK), GiveUp)
    return _without(state, action.number) if given_up else state


def converged_errors(state: CampaignState) -> dict[str, Errors]:
    """Return errors on the held-out set of what has converged, by tag; empty: none was assessed.

    Members that do not converge are assessed beside those that do, as they were: a mean over both
    would be that of nothing that is used.
    """
    return {
        tag: m.assessed
        for tag, m in state.members.items()
        if m.assessed is not None and m.converge_epochs and m.assessed_at == m.converging
    }


def _next(state: CampaignState) -> list[Action]:
    busy = any(isinstance(action, Assess) for action in state.in_flight.values())
    if busy or not state.unassessed or not state.rules.assessed:
        return []
    first = state.unassessed[0]
    return [Assess(number=first.number, checkpoints=first.checkpoints)]


def _without(state: CampaignState, number: int) -> CampaignState:
    return state.but(unassessed=tuple(one for one in state.unassessed if one.number != number))
