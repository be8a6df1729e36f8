"""How long tasks take: what is known of labels, from what others of their geometry took."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from typing import TypeAlias

import numpy as np

from aimspax_core.labels.tries import Tries

Duration: TypeAlias = float | None
"""How long a task takes at most: seconds, `UNKNOWN`, or `WHOLE_JOB`."""

UNKNOWN: Duration = None

WHOLE_JOB: Duration = math.inf
"""As long as any job lasts: the task begins only in a job that has its time before it."""

_FIRST = Tries()
_REMEMBERED = 101

_PERCENTILE = 95
"""Per cent of the labels that take no longer than `Durations.of` says."""


class Durations:
    """Times of labels, by geometry: a molecule is labelled much faster than a solid."""

    def __init__(self) -> None:
        self._seconds: defaultdict[int, deque[float]] = defaultdict(
            lambda: deque(maxlen=_REMEMBERED)
        )

    def note(self, geometry: int, seconds: float) -> None:
        """Remember what a label took (s)."""
        self._seconds[geometry].append(seconds)

    def of(self, geometry: int, tries: Tries = _FIRST) -> Duration:
        """Return how long the next label takes: nearly all that are known took no longer.

        Args:
            geometry: Which geometry it belongs to.
            tries: How often it was lost; one that outlasted a job is given a whole one.
        """
        if tries.out_of_time:
            return WHOLE_JOB
        known = self._seconds.get(geometry)
        return float(np.percentile(known, _PERCENTILE)) if known else UNKNOWN
