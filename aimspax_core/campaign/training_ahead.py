"""How much training a campaign can still need: what it is worth to compile a network for."""

from __future__ import annotations

from aimspax_core.campaign.state import CampaignState, Phase

_CONVERGING = (Phase.INITIAL_CONVERGE, Phase.CONVERGE)
_OVER = (Phase.INITIAL_PUBLISH, Phase.READY, Phase.PUBLISH, Phase.FINISHED, Phase.FAILED)
_BEFORE_ROUNDS = (Phase.ADOPT, Phase.INITIAL, Phase.ACTIVE)


def training_ahead_s(state: CampaignState, initial_epochs: int, final_epochs: int) -> float:
    """Return the seconds of training that are ahead, of all members together.

    They are counted as the quickest of the last trainings was, without what surrounds a short one,
    and 0 before the first. The training set is taken to grow to its limit, but to no more than
    twice of what it is now: an accuracy that is reached ends most campaigns before. A convergence
    is counted with all its epochs.

    Args:
        state: Of the campaign.
        initial_epochs: Most of a member's convergence on the initial dataset.
        final_epochs: Most of one at the end.
    """
    now = state.training_set_size
    if not state.paces or state.phase in _OVER:
        return 0.0
    epoch_s = min(state.paces) * now
    if state.phase in _CONVERGING:
        most = initial_epochs if state.phase is Phase.INITIAL_CONVERGE else final_epochs
        return epoch_s * _converging(state, most)
    largest = state.rules.max_train_set_size if state.phase in _BEFORE_ROUNDS else now
    grown = max(now, min(largest, 2 * now))
    rounds = len(state.rules.tags) * state.rules.epochs_per_round * (grown - now)
    last_s = min(state.paces) * grown
    converging = 0
    if state.rules.converge_al:
        members = 1 if state.rules.converge_best else len(state.rules.tags)
        converging = members * final_epochs
    return rounds * (epoch_s + last_s) / 2 + converging * last_s


def _converging(state: CampaignState, most: int) -> int:
    """Return the epochs that the members can still converge for."""
    left = (
        most - member.converge_epochs for member in state.members.values() if not member.converged
    )
    return sum(max(0, epochs) for epochs in left)
