"""Labels that run unusually long are told of, long before their time limit."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from aimspax_core.labels.durations import Durations
from flows.pools.ticket import Ticket

log = logging.getLogger("aimspax")


class SlowLabels:
    """Knows since when labels run, and which of them have been told of.

    Args:
        durations: What labels take.
    """

    def __init__(self, durations: Durations) -> None:
        self._durations = durations
        self._since: dict[Ticket, float] = {}
        self._told_s: dict[Ticket, float] = {}

    def look(self, labels: Mapping[str, Ticket], geometries: Mapping[str, int], now: float) -> None:
        """Tell of labels that run unusually long; of each again when it has run twice as long.

        Args:
            labels: The labels that were asked for, by their keys.
            geometries: The geometry of each, by the same keys.
            now: The time (s), by any clock that goes on.
        """
        running = {ticket: key for key, ticket in labels.items() if ticket.address}
        self._since = {ticket: self._since.get(ticket, now) for ticket in running}
        self._told_s = {t: said for t, said in self._told_s.items() if t in running}
        for ticket, key in running.items():
            ran_s = now - self._since[ticket]
            geometry = geometries[key]
            slow = self._durations.unusual(geometry, ran_s, self._told_s.get(ticket, 0.0))
            if slow is not None:
                self._told_s[ticket] = ran_s
                log.warning("label %s on %s %s", key[:8], ticket.address, slow.text())
