"""What labels took, and what the next one will take at most."""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np

_REMEMBERED = 101
_MOST = 95
"""Per cent of the labels that take no longer than is said."""


class Durations:
    """Times of labels, by geometry: those of a solid say nothing of those of a molecule."""

    def __init__(self) -> None:
        self._seconds: defaultdict[int, deque[float]] = defaultdict(
            lambda: deque(maxlen=_REMEMBERED)
        )

    def note(self, geometry: int, seconds: float) -> None:
        """Learn what a label took (s)."""
        self._seconds[geometry].append(seconds)

    def of(self, geometry: int) -> float | None:
        """Return what a label takes (s), as nearly all took no longer; None if none is known."""
        known = self._seconds.get(geometry)
        return float(np.percentile(known, _MOST)) if known else None
