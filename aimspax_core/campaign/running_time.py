"""For how long a campaign has run, by the times of its journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aimspax_core.campaign.events import Event, Paused, Resumed, Unpaused
from aimspax_core.campaign.journal_lines import Entry


@dataclass
class RunningTime:
    """Adds up the time between events: not between two processes, nor while it was paused.

    Attributes:
        seconds: So far (s).
        paused: Whether it is paused.
        now: Time of the last event (s since 1970); None before the first.
    """

    seconds: float = 0.0
    paused: bool = False
    now: float | None = None

    @classmethod
    def of(cls, journal: Iterable[Entry]) -> RunningTime:
        """Return the running time that a journal tells."""
        found = cls()
        for entry in journal:
            found.note(entry.event, entry.time)
        return found

    def note(self, event: Event, time: float) -> None:
        """Take in an event, and when it was (s since 1970)."""
        self.seconds = self.at(time) if not isinstance(event, Resumed) else self.seconds
        self.now = time
        self.paused = isinstance(event, Paused) or (self.paused and not isinstance(event, Unpaused))

    def at(self, time: float) -> float:
        """Return for how long it has run (s) at a time at which it still runs (s since 1970)."""
        if self.paused or self.now is None:
            return self.seconds
        return self.seconds + max(0.0, time - self.now)
