"""What is in flight comes back, or is lost; and a campaign that cannot go on stops."""

from __future__ import annotations

from typing import TypeVar

from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.labels.tries import Tries

T = TypeVar("T")


def landed(state: CampaignState, action_id: str) -> CampaignState:
    """Take an action that came back out of flight, and forget its earlier losses."""
    return state.but(
        in_flight=without(state.in_flight, action_id),
        losses=without(state.losses, work_of(action_id)),
    )


def without(mapping: dict[str, T], key: str) -> dict[str, T]:
    """Return a mapping without a key; the mapping itself if it does not have it."""
    if key not in mapping:
        return mapping
    left = mapping.copy()
    del left[key]
    return left


def tries_of(state: CampaignState, action_id: str) -> Tries:
    """Return how often a piece of work was lost since it last came back."""
    return state.losses.get(work_of(action_id), Tries())


def work_of(action_id: str) -> str:
    """Return the piece of work that losses are counted for: all MD segments are one."""
    return "propagate" if action_id.startswith("propagate:") else action_id


def fail(state: CampaignState, reason: str) -> CampaignState:
    """Stop a campaign that cannot go on."""
    if state.phase is Phase.FAILED:
        return state
    return state.but(
        phase=Phase.FAILED,
        failed_in=state.phase,
        stop_reason=reason,
        stop_reason_before=state.stop_reason,
    )
