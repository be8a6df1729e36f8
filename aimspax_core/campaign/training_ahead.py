"""How much training a campaign can still need: what it is worth to compile a network for."""

from __future__ import annotations

import math

from aimspax_core.campaign import final_sets
from aimspax_core.campaign.state import CampaignState, Phase

_OVER = (Phase.INITIAL_PUBLISH, Phase.READY, Phase.PUBLISH, Phase.FINISHED, Phase.FAILED)
_EXPLORING = (Phase.ADOPT, Phase.ACTIVE)
_INITIAL = (Phase.INITIAL, Phase.INITIAL_CONVERGE)


def training_ahead_s(
    state: CampaignState, initial_epochs: int, final_epochs: int, explores: bool = True
) -> float:
    """Return the seconds of training that are ahead, of all members together.

    They are counted as the quickest of the last trainings was, without what surrounds a short one,
    and 0 before the first. In each phase the training sets are taken to grow to their limit, but to
    no more than twice of what they begin with: an accuracy that is reached ends most phases before.
    A convergence is counted with all its epochs, on the sets that it is on.

    Args:
        state: Of the campaign.
        initial_epochs: Most of a member's convergence on the initial dataset.
        final_epochs: Most of one at the end.
        explores: Whether this run goes on with active learning behind the initial dataset.
    """
    if not state.paces or state.phase in _OVER:
        return 0.0
    size = float(state.training_set_size)
    structures = 0.0  # each as often as it is trained on
    if state.phase is Phase.CONVERGE:
        structures += _left(state, final_epochs)
    elif state.phase is Phase.INITIAL_CONVERGE:
        structures += _left(state, initial_epochs)
    elif state.phase is Phase.INITIAL:
        rounds, grown = _initial_growth(state, size)
        members = len(state.members)
        structures += rounds * members * state.rules.initial_epochs * (size + grown) / 2
        structures += members * initial_epochs * grown if state.rules.converge_initial else 0.0
        size = grown
    if state.phase in _EXPLORING or (explores and state.phase in _INITIAL):
        grown = max(size, min(state.rules.max_train_set_size, 2 * size))
        structures += _rounds(state, size, grown)
        size = grown
    if state.phase in (*_EXPLORING, Phase.DRAIN) or (explores and state.phase in _INITIAL):
        structures += _final(state, final_epochs, size)
    return min(state.paces) * structures


def _initial_growth(state: CampaignState, size: float) -> tuple[float, float]:
    """Return how many rounds of the initial dataset are ahead, and a training set behind them."""
    rules = state.rules
    trained = 1 - rules.initial_valid_ratio
    a_round = max(1.0, rules.points_per_step * rules.geometries * trained)
    shares = len(state.members) if rules.distinct_sets else 1
    room = max(0.0, rules.max_initial_set_size - state.initial_set_size) * trained / shares
    epochs = max(0.0, rules.max_initial_epochs - state.epochs)
    rounds = min(math.ceil(min(size, room) / a_round), epochs / rules.initial_epochs)
    return rounds, size + min(size, room, rounds * a_round)


def _rounds(state: CampaignState, size: float, grown: float) -> float:
    """Return what rounds of active learning train on, while sets grow."""
    rules = state.rules
    most = math.inf if rules.train_subset is None else rules.train_subset
    epochs = len(rules.tags) * rules.epochs_per_round * (grown - size)
    return epochs * (min(size, most) + min(grown, most)) / 2


def _final(state: CampaignState, epochs: int, size: float) -> float:
    """Return what the convergence at the end trains on, where a member's set has this size."""
    rules = state.rules
    if not rules.converge_al:
        return 0.0
    on = final_sets.wanted(state)
    if on != "own":
        together = final_sets.together(state, on == "all-and-analysis")
        size += max(0, len(together.training) - state.training_set_size)
    return (1 if rules.converge_best else len(rules.tags)) * epochs * size


def _left(state: CampaignState, most: int) -> float:
    """Return what members that converge can still be trained on."""
    return sum(
        max(0, most - member.converge_epochs)
        * len(final_sets.sets_on(state, tag, state.converging_on).training)
        for tag, member in state.members.items()
        if not member.converged
    )
