"""Labels that wait for workers, in batches: many fast labels to a task, or one slow label."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable
from statistics import median

from aimspax_core.labels.tries import Fate, GiveUp, Retry, Tries, after

TASK_S = 10.0
"""How long a task should take (s): much longer than its start, and no long wait for a stop."""

_SHORT_S = 1.0
"""Tasks are not made shorter than this (s) to give every worker one."""

_MOST = 1000
"""Labels that a task has at most."""

_KNOWN = 3
"""Times of labels that must be known before two structures share a task."""

_REMEMBERED = 101
"""Times of labels that are remembered."""


class Batches:
    """Labels that wait for a worker.

    A label that died or ran out of time is tried again alone, so that no others are lost with it.

    Args:
        keys: Keys of the labels, in order.
        workers: How many workers share them.
    """

    def __init__(self, keys: Iterable[str], workers: int) -> None:
        self._line = deque(keys)
        self._workers = workers
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._tries: defaultdict[str, Tries] = defaultdict(Tries)
        self._put_off: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """Return how many labels wait."""
        return len(self._line) + len(self._put_off)

    def next(self, now: float) -> tuple[str, ...]:
        """Take out the next batch; an empty one if no label is due.

        Args:
            now: The time (s), of a clock that does not go back.
        """
        for entry in sorted(self._put_off):
            if entry[0] <= now:
                self._put_off.remove(entry)
                return (entry[1],)
        return tuple(self._line.popleft() for _ in range(min(self._size(), len(self._line))))

    def due_in(self, now: float) -> float:
        """Return the time (s) until a label's backoff is over; infinite if there is none."""
        return max(0.0, min((due for due, _ in self._put_off), default=math.inf) - now)

    def took(self, seconds: float) -> None:
        """Remember how long a label took (s)."""
        self._seconds.append(seconds)

    def give_back(self, keys: Iterable[str]) -> None:
        """Put labels that a task has not begun in front of the line, in their order."""
        self._line.extendleft(reversed(tuple(keys)))

    def lost(self, key: str, fate: Fate, now: float) -> Retry | GiveUp:
        """Count a loss of a label, and put it back unless it is given up.

        Args:
            key: Its key.
            fate: How it was lost.
            now: The time (s), of the clock of `next`.
        """
        tries = self._tries[key] = self._tries[key].lost(fate)
        verdict = after(tries, fate)
        if isinstance(verdict, Retry):
            if tries.died or tries.out_of_time:
                self._put_off.append((now + verdict.delay_s, key))
            else:
                self._line.appendleft(key)
        return verdict

    def tries(self, key: str) -> Tries:
        """Return how often a label was lost."""
        return self._tries.get(key, Tries())  # other threads ask: nothing is added here

    def _size(self) -> int:
        """Return how many labels fit into a task; towards the end, so few that all workers work."""
        if len(self._seconds) < _KNOWN:
            return 1
        each = max(median(self._seconds), TASK_S / _MOST)
        share = max(math.ceil(len(self._line) / self._workers), int(_SHORT_S / each))
        return max(1, min(int(TASK_S / each), share))
