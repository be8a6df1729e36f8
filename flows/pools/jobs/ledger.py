"""What is known of the jobs of a pool, and what can be done about them: data for the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from flows.pools.jobs.job import Job
from flows.pools.jobs.notices import Notices, Tell

STUCK_S = 120.0
"""A job that has been ending for so long does not count any more: another takes its place."""


@dataclass(frozen=True)
class Policy:
    """What the settings say of a pool's jobs.

    Attributes:
        pool: Name of the pool.
        scheduler: What users call the scheduler.
        slots: Workers of a job; each has one task at a time.
        least: Jobs that are kept, with nothing to do too.
        most: Jobs at the same time at most.
        first: Jobs at the start.
        walltime_s: Time limit of a job (s); None if there is none.
        idle_s: How long a job may have nothing to do before it is given back (s).
        notice_s: How long nothing may start before users are told (s).
        needs_scheduler: Whether its tasks start programs by the scheduler, as `srun` does.
    """

    pool: str
    scheduler: str = "Slurm"
    slots: int = 1
    least: int = 0
    most: int = 1
    first: int = 1
    walltime_s: float | None = None
    idle_s: float = 300.0
    notice_s: float = 900.0
    needs_scheduler: bool = False


@dataclass(frozen=True)
class Jobs:
    """All that is known of the jobs of a pool; times as in `Job`.

    Attributes:
        by_name: The jobs, those that have ended too, in the order of their submission.
        homes: The job of each worker that ever was, by the worker's address.
        notices: What users have been told.
        made: How many scripts were written.
        stillborn: How many jobs in a row have ended before their worker had come.
        surplus_since: Since when there have been more jobs than are wanted.
        retry_at: Before this time nothing is submitted.
        retry_s: How long the last wait was for a scheduler that took no job (s).
        answered_at: When the scheduler was last asked and answered.
        trouble: Why no job is of use any more; empty while all is well.
    """

    notices: Notices
    by_name: Mapping[str, Job] = field(default_factory=dict)
    homes: Mapping[str, str] = field(default_factory=dict)
    made: int = 0
    stillborn: int = 0
    surplus_since: float | None = None
    retry_at: float = 0.0
    retry_s: float = 0.0
    answered_at: float = 0.0
    trouble: str = ""

    def at(self, address: str) -> Job | None:
        """Return the job of a worker; None if there never was one."""
        return self.by_name.get(self.homes.get(address, ""))

    def having(self, *jobs: Job) -> Jobs:
        """Return the same with some jobs as they are now."""
        return replace(self, by_name={**self.by_name, **{job.name: job for job in jobs}})

    def live(self, now: float) -> list[Job]:
        """Return the jobs that count; one that the scheduler does not get rid of does not."""
        jobs = [job for job in self.by_name.values() if job.live]
        return [job for job in jobs if job.ending_since is None or job.ending_since > now - STUCK_S]


@dataclass(frozen=True)
class Crew:
    """The workers of a job that are there now.

    Attributes:
        number: How many they are.
        busy: Whether one of them has a task.
    """

    number: int = 0
    busy: bool = False


@dataclass(frozen=True)
class Demand:
    """The work that a pool has.

    Attributes:
        outstanding: How many tasks wait or run.
        waiting: What each task that waits will take (s); None where that is not known.
    """

    outstanding: int = 0
    waiting: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Submit:
    """Submit so many jobs, one after the other, until one is not taken."""

    number: int


@dataclass(frozen=True)
class GiveBack:
    """Have the scheduler end a job, unless it was given work this moment."""

    job: Job
    why: str


@dataclass(frozen=True)
class Forget:
    """Have Dask forget the workers of a job: after the failure of a node nobody has told it."""

    job: Job


@dataclass(frozen=True)
class Blame:
    """Find out whether the Prefect API is away; if not, a job without a worker counts.

    Attributes:
        job: Has ended, or runs on, and no worker of it has come.
        how: What became of it.
    """

    job: Job
    how: str


@dataclass(frozen=True)
class GiveUp:
    """No job is of use any more.

    Attributes:
        text: Why.
        output_of: A job whose output says more.
    """

    text: str
    output_of: Job | None = None


Action = Tell | Submit | GiveBack | Forget | Blame | GiveUp
