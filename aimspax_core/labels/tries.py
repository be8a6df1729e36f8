"""The rules of retries: how often work is tried again, when, and when it is given up.

All that tries a label again follows them: a campaign's rules, `aimspax label`, the few labels of
other commands, and MD that is driven by a reference. They are pure: no clock and no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

BACKOFF_S = (2.0, 10.0, 30.0)
"""How long (s) a label waits before it is tried again, after one, two, three or more deaths."""

MAX_GIVEN_UP_IN_A_ROW = 3
"""How many labels may be given up, with none computed in between, until the reference is broken."""


class Fate(StrEnum):
    """How a task was lost: what became of it, or of the worker that had it."""

    DIED = "died"  # it raised an error, or its worker died: the task may be the cause
    INTERRUPTED = "interrupted"  # its job was cancelled, requeued or preempted; its node failed
    OUT_OF_TIME = "out-of-time"  # its job came to its time limit
    SERVER = "server"  # the Prefect API was away: no fault of the work, nor of its worker
    STORAGE = "storage"  # no room, read-only, out of reach: it could not be written down


NO_TRIES = frozenset({Fate.SERVER, Fate.STORAGE})
"""Losses that are no tries: the work is tried again without limit, and they are never counted."""


@dataclass(frozen=True)
class Limits:
    """At how many losses of a kind work is given up.

    Attributes:
        died: Errors and dead workers.
        interrupted: Losses that the work is not the cause of.
        out_of_time: Jobs that came to their time limit.
    """

    died: int = 4
    interrupted: int = 20
    out_of_time: int = 20

    def of(self, fate: Fate) -> int:
        """Return the limit for one kind of loss that is a try."""
        return int(getattr(self, _field(fate)))


TASK = Limits()
"""For training, MD and the like: they come back by themselves long before a job's time limit."""

LABEL = Limits(out_of_time=2)
"""For a label: the second job that it outlasts is its own from the start."""

ONCE = Limits(died=1, out_of_time=1)
"""For a command that somebody waits for: only interruptions are mended."""


@dataclass(frozen=True)
class Tries:
    """How often one piece of work was lost since it last came back.

    Attributes:
        died: To errors and dead workers.
        interrupted: To what the work is not the cause of.
        out_of_time: To the time limits of jobs.
    """

    died: int = 0
    interrupted: int = 0
    out_of_time: int = 0

    def of(self, fate: Fate) -> int:
        """Return how often the work was lost in one way; 0 for losses that are no tries."""
        return 0 if fate in NO_TRIES else int(getattr(self, _field(fate)))

    def lost(self, fate: Fate) -> Tries:
        """Return the count with one more loss, if that was a try."""
        if fate in NO_TRIES:
            return self
        return replace(self, **{_field(fate): self.of(fate) + 1})

    @property
    def delay_s(self) -> float:
        """How long (s) to wait before the next try: only deaths make it longer than nothing."""
        return BACKOFF_S[min(self.died, len(BACKOFF_S)) - 1] if self.died else 0.0


@dataclass(frozen=True)
class Retry:
    """The work is tried again.

    Attributes:
        delay_s: How long (s) to wait before.
    """

    delay_s: float


@dataclass(frozen=True)
class GiveUp:
    """The work is not tried again.

    Attributes:
        fate: The kind of loss that came too often.
        times: How often it came.
    """

    fate: Fate
    times: int

    def text(self, last: str) -> str:
        """Describe why the work is given up.

        Args:
            last: Why it was lost the last time.
        """
        advice = f". {_TOO_SHORT}" if self.fate is Fate.OUT_OF_TIME else ""
        return f"lost {self.times} times; last: {last}{advice}"


def after(tries: Tries, fate: Fate, limits: Limits = LABEL) -> Retry | GiveUp:
    """Return whether work is tried again after a loss.

    Args:
        tries: All losses, with this one.
        fate: The kind of this loss; only its own limit counts.
        limits: When to give up.
    """
    if fate in NO_TRIES:
        return Retry(tries.delay_s)
    times = tries.of(fate)
    return GiveUp(fate, times) if times >= limits.of(fate) else Retry(tries.delay_s)


def reference_broken(given_up: int) -> bool:
    """Return whether the reference, and not the structures, is the cause of labels given up.

    Args:
        given_up: How many labels were given up since the last one was computed.
    """
    return given_up >= MAX_GIVEN_UP_IN_A_ROW


def broken_text(last: str) -> str:
    """Describe a broken reference.

    Args:
        last: Why the last label was given up.
    """
    return f"{MAX_GIVEN_UP_IN_A_ROW} labels in a row could not be computed; the last was {last}"


def from_counts(counts: Mapping[str, int]) -> dict[str, Tries]:
    """Return losses by work as earlier releases wrote them into a campaign's snapshot.

    Args:
        counts: Losses by `WORK` (deaths) and by `WORK FATE`.
    """
    found: dict[str, Tries] = {}
    for key, times in counts.items():
        fate = next((fate for fate in Fate if key.endswith(f" {fate}")), Fate.DIED)
        work = key.removesuffix(f" {fate}")
        found[work] = replace(found.get(work, Tries()), **{_field(fate): times})
    return found


def _field(fate: Fate) -> str:
    """Return what `Limits` and `Tries` call losses of a kind."""
    return fate.name.lower()


_TOO_SHORT = (
    "A calculation takes longer than its job may: give the jobs more time (--time), or a "
    "calculation more cores"
)
