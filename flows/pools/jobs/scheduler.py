"""What a pool needs of a scheduler: to submit, list and cancel jobs. Slurm is one; others can be.

`aimspax_core.settings.schedulers` has the table of them; docs/extending/scheduler.md says how to
add one.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aimspax_core.settings.schedulers import scheduler_row

if TYPE_CHECKING:
    from aimspax_core.settings.cluster import BatchJobs

PATIENCE_S = 60.0
"""How long one command may take (s); a scheduler that is busy answers late."""


class State(StrEnum):
    """What a job does, or how it ended."""

    SUBMITTED = "submitted"  # and the scheduler has not listed it yet
    WAITING = "waiting"  # in the queue, for the first time or again
    RUNNING = "running"  # or its nodes are being made ready
    PAUSED = "paused"  # has begun, does not run, and has not ended: suspended, say
    ENDING = "ending"  # its processes are being ended; the scheduler does not say why yet
    COMPLETED = "completed"  # its script returned 0
    FAILED = "failed"  # its script returned something else
    OUT_OF_TIME = "out-of-time"  # it came to its time limit
    OUT_OF_MEMORY = "out-of-memory"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"  # it had to give way to another job
    NODE_LOST = "node-lost"  # its node failed
    ENDED = "ended"  # in another way, which the scheduler's own word says

    @property
    def is_over(self) -> bool:
        """Whether a job in this state has ended."""
        return self not in _ALIVE


_ALIVE = {State.SUBMITTED, State.WAITING, State.RUNNING, State.PAUSED, State.ENDING}


class SchedulerSilentError(Exception):
    """The scheduler does not answer, or cannot do at the moment what it was asked for."""


class SchedulerRefusedError(Exception):
    """The scheduler refuses what it was asked for, and would refuse it again."""


@dataclass(frozen=True)
class Listed:
    """A job as its scheduler lists it.

    Attributes:
        id: What the scheduler calls it; a number, as a rule.
        state: What it does, or how it ended.
        script: The script that it was submitted with.
        state_text: The same as `state` in the scheduler's own word, such as `PENDING`.
        left_s: How long it may still run (s); None without a limit, or while it does not run.
        start: When it began, as the scheduler writes it; another text after it was requeued.
        reason: Why it waits, or why it ended; empty if the scheduler does not say.
        stuck: Whether it waits for a reason that does not go away by itself.
        nodes: Where it runs.
    """

    id: str
    state: State
    script: Path
    state_text: str = ""
    left_s: float | None = None
    start: str = ""
    reason: str = ""
    stuck: bool = False
    nodes: str = ""


@dataclass(frozen=True)
class Environment:
    """What the programs that a worker starts find in their environment.

    Attributes:
        variables: What they find.
        unset: Variables of the job that they must not find.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()


class Scheduler(Protocol):
    """Starts jobs, lists them and ends them.

    A job is known by its script: the scripts of a pool lie in one folder, and no others do. Each
    call may raise `SchedulerSilentError`, and has to within `timeout_s` (s).

    Attributes:
        title: What users call it.
        commands: Programs that have to be there on the machine of the flow.
        starts_programs: Whether programs that a job starts need the scheduler (Slurm's `srun`
            does): while it is silent no calculation that starts programs is begun.
    """

    title: str
    commands: tuple[str, ...]
    starts_programs: bool

    def submit(self, script: Path, timeout_s: float = PATIENCE_S) -> str:
        """Submit a script; return the job's id.

        Raises:
            SchedulerRefusedError: It is not taken; the text is the scheduler's own.
            SchedulerSilentError: The scheduler does not answer; it may have taken it all the same.
        """
        ...

    def jobs(self, folder: Path, timeout_s: float = PATIENCE_S) -> list[Listed]:
        """Return the jobs whose scripts lie in a folder, and not below it.

        A job that ended has to be listed for a minute at least, or what it computed counts as
        interrupted.

        Raises:
            SchedulerSilentError: The scheduler does not answer.
        """
        ...

    def cancel(self, ids: Collection[str], timeout_s: float = PATIENCE_S) -> None:
        """Cancel jobs, those that wait and those that run; one that has ended is no error.

        Raises:
            SchedulerSilentError: The scheduler does not answer.
        """
        ...

    def tried(self, script: Path, timeout_s: float = PATIENCE_S) -> str:
        """Ask whether a script would be taken, and submit nothing; return what is said to it.

        Raises:
            SchedulerRefusedError: It would not; the text is the scheduler's own.
            SchedulerSilentError: The scheduler does not answer.
        """
        ...

    def header(self, jobs: BatchJobs, output: str) -> list[str]:
        """Return the lines at the head of a job's script, behind `#!/bin/bash`.

        Args:
            jobs: What the settings say of such jobs; their options are in `jobs.header`.
            output: Where a job has to write what it prints, unless its options say another place:
                into the file `<output><id>.out`, at its end.
        """
        ...

    def environment(self, jobs: BatchJobs, shared: bool) -> Environment:
        """Return what programs need in their environment that a worker starts.

        Args:
            jobs: What the settings say of such jobs.
            shared: Whether several calculations run in a job at once, and each may have no more
                than `jobs.per_slot`.
        """
        ...

    def controller(self) -> str | None:
        """Return a host on the cluster's network, by whose side the flow is reached; else None."""
        ...


def scheduler(name: str) -> Scheduler:
    """Return the scheduler that `CLUSTER.type` names."""
    found: Scheduler = pkgutil.resolve_name(scheduler_row(name).scheduler)()
    return found
