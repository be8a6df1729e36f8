"""Candidates that are not labelled, in words."""

from __future__ import annotations

from aimspax_core.campaign.events import CandidatesRefused
from aimspax_core.campaign.state import WhyRefused

_WHY: dict[WhyRefused, str] = {
    "renewed": "a new ensemble will judge",
    "near": "nearly the same as others",
    "ended": "exploring has ended",
}


def candidates_text(event: CandidatesRefused) -> str:
    """Return how many structures are not labelled, and why."""
    whys = [one.why for one in event.refusals]
    reasons = [f"{whys.count(why)} ({text})" for why, text in _WHY.items() if why in whys]
    return f"candidates passed over, their trajectories go on: {', '.join(reasons)}"
