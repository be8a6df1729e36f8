"""The convergence at the end of a campaign in words: who converges, on what, and who does not."""

from __future__ import annotations

from collections.abc import Iterator

from aimspax_core.campaign.final_sets import sets_on
from aimspax_core.campaign.state import CampaignState


def converging_lines(state: CampaignState) -> Iterator[str]:
    """Yield what is converged on, and what is left undone though there are workers for it.

    Args:
        state: The campaign as its last convergence begins.
    """
    tags = [tag for tag, member in state.members.items() if not member.converged]
    who = tags[0] if len(tags) == 1 else f"{len(tags)} members"
    yield f"converging on the final dataset: {who} on {_what(state, tags[0])}"
    if state.rules.converge_on == "all" and state.converging_on == "own":
        yield "members converge on their own sets: no validation point is new to all of them"
    workers, members = state.rules.max_segments, len(state.members)
    if len(tags) < min(workers, members):
        yield (
            f"{_idle(workers - len(tags))} during the convergence: with "
            f"ACTIVE_LEARNING.converge_best: False all {members} members converge, {_longer(state)}"
            "; the mean of all errs less than one, and its spread says by how much"
        )


def _what(state: CampaignState, tag: str) -> str:
    sets = sets_on(state, tag, state.converging_on)
    sizes = f"{len(sets.training)} + {len(sets.validation)}"
    if state.converging_on == "own":
        return f"its own points ({sizes})"
    of = f", {len(sets.analysis)} of them labelled for analysis only" if sets.analysis else ""
    return f"all members' points ({sizes}{of})"


def _idle(workers: int) -> str:
    return f"{workers} worker{'s are' if workers > 1 else ' is'} idle"


def _longer(state: CampaignState) -> str:
    """Return how much longer all members take than one; each epoch of one has one worker."""
    turns = len(state.members) / state.rules.max_segments
    return "in the same time" if turns <= 1 else f"in about {turns:.2g} times the time"
