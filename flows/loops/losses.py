"""What a loop learns from work that was lost: where, how and when it is tried again."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable

from aimspax_core.labels.storage_losses import StorageLoss, Verdict, verdict
from aimspax_core.labels.tries import Fate
from aimspax_core.storage import cannot_take, text
from flows.loops.room import LOOK_S, Room

REST_S = 600.0
"""For so long (s) a worker whose storage took nothing gets no new work if there are others."""


class Losses:
    """Losses of a run's work, and what follows from them for the next try.

    Args:
        room: The room that this process has, which waits if the work needs room; None: nothing
            waits, and this process counts as having some.
        now: The clock (s).
    """

    def __init__(self, room: Room | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._room, self._now = room, now
        self._avoided: dict[str, set[str]] = {}  # workers, by the work that avoids them
        self._plainly: set[str] = set()
        self._resting: dict[str, float] = {}  # workers, until when
        # By work, and by file: how often which error of the system came.
        self._in_a_row: defaultdict[str, Counter[int | None]] = defaultdict(Counter)
        self._without_room: set[str] = set()  # workers since one has brought something back
        self._here, self._look_again = True, 0.0

    def avoided(self, *works: str) -> set[str]:
        """Return the workers where work should not run, a set that grows while it waits.

        Pieces of work that run in one task share it from then on.
        """
        self._resting = {w: end for w, end in self._resting.items() if end > self._now()}
        avoided = self._avoided.setdefault(works[0], set())
        avoided.update(self._resting, *(self._avoided.get(work, ()) for work in works))
        self._avoided.update(dict.fromkeys(works, avoided))
        return avoided

    def plainly(self, work: str) -> bool:
        """Return whether work was lost to the Prefect API, and is tried again without it."""
        return work in self._plainly

    def failed(self, work: str, worker: str) -> None:
        """Note that work failed on a worker for a reason that may be the worker's."""
        self._avoided.setdefault(work, set()).add(worker)

    def taken(self, work: str, fate: Fate) -> None:
        """Note that a worker, or the Prefect API, was lost with its work."""
        if fate is Fate.SERVER:
            self._plainly.add(work)

    def unwritten(self, work: str, worker: str, error: OSError) -> Verdict:
        """Note that work was lost to the operating system; return what follows.

        Nothing is launched for a while, if that is a part of it.
        """
        self.failed(work, worker)
        if not cannot_take(error):
            return Verdict(Fate.DIED)
        self._rest(worker)
        subjects = {work}
        if error.errno == errno.EIO and error.filename is not None:
            subjects.add(os.fsdecode(error.filename))
        for subject in subjects:
            self._in_a_row[subject][error.errno] += 1
        times = max(self._in_a_row[subject][error.errno] for subject in subjects)
        loss = StorageLoss(error.errno, self._room_here(), times, len(self._without_room))
        found = verdict(loss)
        if found.pause and self._room is not None:
            self._room.lost(text(error))
        return found

    def done(self, work: str, worker: str) -> None:
        """Note that work came back."""
        self._avoided.pop(work, None)
        self._in_a_row.pop(work, None)
        self._resting.pop(worker, None)
        self._without_room.clear()
        if self._room is not None:
            self._room.done()

    def _room_here(self) -> bool:
        """Return whether this process has room; much that is lost at once is one look."""
        if self._room is not None and self._now() >= self._look_again:
            self._here = self._room.there()
            self._look_again = self._now() + LOOK_S
        return self._here

    def _rest(self, worker: str) -> None:
        """Give a worker no new work for a while, nor what waits already."""
        self._without_room.add(worker)
        self._resting[worker] = self._now() + REST_S
        for avoided in self._avoided.values():
            avoided.add(worker)
