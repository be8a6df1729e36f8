"""How often a run may be started again by itself: a few times in a row without progress."""

from __future__ import annotations

from aimspax_core.campaign.record import Record
from aimspax_core.campaign.state import CampaignState
from aimspax_core.structures import digest

STOPS = 20
"""How often a run may go on after a stop, in a row and without progress.

A person, or a machine that is shut down, stops a run a few times. What stops it each time before it
has come anywhere, such as a limit of memory or time, would do so without end.
"""


class Restarts(Record):
    """What is remembered from one attempt at a flow run to the next.

    Attributes:
        flow_run: The flow run's id.
        attempt: Which attempt at it was the last, from 1.
        mark: How far the work was when that attempt began; only equality counts.
        in_a_row: How often it was started again since the last progress.
        stopped: Whether that attempt was stopped, by a person or with its worker, and did not die.
        stops: How often it went on after a stop since the last progress.
    """

    flow_run: str
    attempt: int
    mark: str
    in_a_row: int = 0
    stopped: bool = False
    stops: int = 0

    def too_many(self, limit: int) -> bool:
        """Return whether this attempt is one too many."""
        return self.in_a_row > limit or self.stops > STOPS

    def forgiven(self) -> Restarts:
        """Return the same with a new count: who starts the run again after that means it."""
        return self.but(in_a_row=0, stops=0)


def counted(before: Restarts | None, now: Restarts) -> Restarts:
    """Return an attempt with how many restarts in a row it makes, itself included.

    What was stopped and goes on is counted by itself, and hides nothing that was counted before.

    Args:
        before: What was noted by the attempt before, if there was one.
        now: The attempt, with no count.
    """
    if before is None or before.flow_run != now.flow_run or before.mark != now.mark:
        return now
    again = now.attempt > before.attempt
    return now.but(
        in_a_row=before.in_a_row + int(again and not before.stopped),
        stops=before.stops + int(again and before.stopped),
    )


def mark_of(state: CampaignState | None) -> str:
    """Return how far a campaign is; what was only asked for, lost or taken up again does not count.

    Two states have the same mark if nothing came between them that a later attempt could use.
    """
    if state is None:
        return ""
    return digest(
        {
            "points": [state.labels, state.failed_labels, state.refused],
            "published": state.published_initial,
            "samplers": [[sampler.version, sampler.step] for sampler in state.samplers],
            "trajectories": [[one.version, one.step] for one in state.trajectories],
            "members": [
                [member.checkpoint, member.converging, member.epochs, member.converge_epochs]
                for member in state.members.values()
            ],
        }
    )
