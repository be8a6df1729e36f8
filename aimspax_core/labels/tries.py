"""How often a label is tried, and when it is given up."""

from __future__ import annotations

from enum import StrEnum


class Fate(StrEnum):
    """How a task was lost, or what became of the worker that had it."""

    DIED = "died"  # by an error or with its worker: it may have been its own fault
    INTERRUPTED = "interrupted"  # its job was cancelled, requeued or preempted; its node failed
    OUT_OF_TIME = "out-of-time"  # its job came to its time limit: it takes longer than a job may


MAX_LOSSES = 4
"""How often one task may be lost (worker dead, error raised) before it counts as impossible."""


MAX_LOST_LABELS = 3
"""How many labels in a row may be impossible before the reference itself counts as broken."""


MAX_INTERRUPTIONS = 20
"""How often one task may be lost to what is not its fault: cancelled, preempted, a node gone."""


MAX_TIMES_OUT = 2
"""How often a label may outlast the job that it runs in."""


TOO_SHORT = (
    "A calculation takes longer than its job may: give the jobs more time (--time), or a "
    "calculation more cores"
)
"""What to do about it."""


BACKOFF_S = (2.0, 10.0, 30.0)
"""How long a label that was lost once, twice, three times is put off."""
