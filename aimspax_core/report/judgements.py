"""Labels held against what the committee had said, from a campaign's journal alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from aimspax_core.campaign.actions import Propagate
from aimspax_core.campaign.events import Event, LabelArrived, SegmentFinished
from aimspax_core.campaign.journal_lines import Entry
from aimspax_core.campaign.judged import Judged
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState


@dataclass
class Judgements:
    """What the figure shows.

    Attributes:
        points: All labels that were held against a prediction, in the order in which they came.
        factors: The factor that was in force after so many of them.
        ensembles: Checkpoints of the committee whose prediction each point is of; where that is
            not known, a name that no other has.
        state: The campaign after the last event; None if nothing has happened.
    """

    points: list[Judged] = field(default_factory=list)
    factors: list[tuple[int, float]] = field(default_factory=list)
    ensembles: list[tuple[str, ...]] = field(default_factory=list)
    state: CampaignState | None = None
    _said_by: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def note(self, before: CampaignState | None, event: Event, after: CampaignState) -> None:
        """Take in an event, and the states before and after it."""
        self.state = after
        if isinstance(event, SegmentFinished) and before is not None:
            for key, ensemble in _said_by(event, before).items():
                self._said_by.setdefault(key, ensemble)  # what was said first is kept
        if not isinstance(event, LabelArrived) or event.judged is None or before is None:
            return
        if after.judgement.points > before.judgement.points:
            self.points.append(event.judged)
            self.ensembles.append(self._said_by.get(event.key, (event.key,)))
            now = after.calibration()
            if now is not None:
                self.factors.append((len(self.points), now.factor))


def judgements(journal: Iterable[Entry]) -> Judgements:
    """Replay a journal, and keep what the figure shows."""
    found = Judgements()
    for entry in journal:
        before = found.state
        found.note(before, entry.event, apply(before, entry.event))
    return found


def _said_by(event: SegmentFinished, before: CampaignState) -> dict[str, tuple[str, ...]]:
    """Return the ensemble of each structure that a segment came back with, by key."""
    segment = before.in_flight.get(event.action_id)
    if not isinstance(segment, Propagate):
        return {}
    keys = (*(one.key for one in event.results), *(one.key for one in event.looks))
    return {key: segment.checkpoints for key in keys if key is not None}
