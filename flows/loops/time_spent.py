"""Tells a campaign whose hours are limited for how long it has run."""

from __future__ import annotations

import time

from aimspax_core.campaign.events import Event, TimePassed
from aimspax_core.campaign.journal import entries
from aimspax_core.campaign.running_time import RunningTime
from aimspax_core.campaign.state import CampaignState
from aimspax_core.run_directory import RunDir
from aimspax_core.stopping.budget import BUDGET_HOURS

SHARE = 0.01
"""Of the limit: the time from one event to the next."""

LEAST_S, MOST_S = 1.0, 60.0
"""That time at least, and at most (s)."""


class TimeSpent:
    """The running time of a campaign that this process runs.

    Args:
        run: Its run directory; the journal is read only when the time matters.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._time: RunningTime | None = None

    def due(self, state: CampaignState) -> Event | None:
        """Return an event that tells the time, if the campaign depends on it and it is due."""
        limit_s = 3600 * state.rules.limit(BUDGET_HOURS)
        if limit_s == 3600 * BUDGET_HOURS.key.off or state.paused is not None:
            return None
        if self._time is None:
            self._time = RunningTime.of(entries(self._run.journal))
        ran_s = self._time.at(time.time())
        step_s = min(MOST_S, max(LEAST_S, SHARE * limit_s))
        over = ran_s >= limit_s > state.ran_s
        return TimePassed(seconds=ran_s) if over or ran_s >= state.ran_s + step_s else None

    def note(self, event: Event) -> None:
        """Take in an event that has just been recorded."""
        if self._time is not None:
            self._time.note(event, time.time())
