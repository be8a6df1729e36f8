"""How long tasks take: what is known of labels, from what others of their geometry took."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from aimspax_core.labels.tries import Tries
from aimspax_core.text import duration_text

Duration: TypeAlias = float | None
"""How long a task takes at most: seconds, `UNKNOWN`, or `WHOLE_JOB`."""

UNKNOWN: Duration = None

WHOLE_JOB: Duration = math.inf
"""As long as any job lasts: the task begins only in a job that has its time before it."""

_FIRST = Tries()
_REMEMBERED = 101

_PERCENTILE = 95
"""Per cent of the labels that take no longer than `Durations.of` says."""


_UNUSUAL = 3.0
"""Times as long as the longest label so far, from which on a label is unusual."""

_UNUSUAL_S = 60.0
"""A label that runs for less is not worth a word (s)."""

_UNUSUAL_FIRST_S = 3600.0
"""Of a geometry of which no label is known, the first is told of after this time (s)."""


@dataclass(frozen=True)
class Unusual:
    """A label that runs unusually long.

    Attributes:
        ran_s: For how long (s).
        longest_s: What the others of its geometry took at most (s); None: there are none yet.
    """

    ran_s: float
    longest_s: float | None

    def text(self) -> str:
        """Describe it, as in `runs for 2 h; others took at most 40 s`."""
        others = (
            "no other of its geometry has come yet"
            if self.longest_s is None
            else f"others took at most {duration_text(self.longest_s)}"
        )
        return f"has been running for {duration_text(self.ran_s)}; {others}"


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

    def unusual(self, geometry: int, ran_s: float, told_s: float = 0.0) -> Unusual | None:
        """Return whether to tell of a label that still runs.

        Args:
            geometry: Which geometry it belongs to.
            ran_s: For how long it runs (s).
            told_s: For how long it ran when it was told of last (s); it is told of again when it
                has run for twice as long.
        """
        known = self._seconds.get(geometry)
        longest = max(known) if known else None
        limit = _UNUSUAL_FIRST_S if longest is None else max(_UNUSUAL_S, _UNUSUAL * longest)
        return Unusual(ran_s, longest) if ran_s >= max(limit, 2 * told_s) else None
