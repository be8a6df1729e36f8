"""What a fleet of jobs knows of the workers of its pool: why one is gone, which has time. Pure."""

from __future__ import annotations

from aimspax_core.labels.tries import Fate
from flows.pools.jobs.ledger import Jobs, Policy
from flows.pools.jobs.scheduler import State
from flows.pools.workers import WorkerLostError

HUNG_S = 10.0
"""Of several workers of a job one may die; by then the job itself would be known to end."""

GOING_S = 2.0
"""So long after its engine a job that ends is not listed as running any more."""

ENDING_S = 75.0
"""A scheduler may be ending a job for minutes before it says why; so long that is waited for."""


def explain(
    jobs: Jobs, address: str, missed_since: float, now: float, policy: Policy
) -> WorkerLostError | None:
    """Return what became of a worker that is gone; None while that is not known yet.

    Args:
        jobs: What is known.
        address: The worker.
        missed_since: When the pool first asked.
        now: The time.
        policy: What the settings say.
    """
    job = jobs.at(address)
    if job is None:
        return WorkerLostError("its worker died", Fate.DIED)
    if policy.slots == 1 and job.newest != address:
        return job.requeued_error  # its job runs once more already
    if jobs.answered_at > missed_since + GOING_S and job.nearly_over(now):
        return job.out_of_time_error
    hung = policy.slots > 1 and job.running and jobs.answered_at > missed_since + HUNG_S
    if hung and not job.nearly_over(now):
        return WorkerLostError(f"a worker of {job} died", Fate.DIED)
    if job.state is State.ENDING and now > missed_since + ENDING_S:
        return WorkerLostError(f"{job} was ended by {policy.scheduler}", Fate.INTERRUPTED)
    return job.lost_worker(now, jobs.notices.silence)


def room(jobs: Jobs, address: str, seconds: float | None, now: float, policy: Policy) -> bool:
    """Tell whether a task has the time on a worker.

    What takes longer than any job lasts may begin in a new one.

    Args:
        jobs: What is known.
        address: The worker.
        seconds: What the task takes; None if that is not known.
        now: The time.
        policy: What the settings say.
    """
    if policy.needs_scheduler and jobs.notices.silence:
        return False
    job = jobs.at(address)
    if job is None or job.leaving:
        return False
    if job.state not in {State.SUBMITTED, State.WAITING, State.RUNNING}:
        return False
    return job.fits(seconds, now)


def sound(jobs: Jobs, address: str, since: float) -> bool | None:
    """Tell whether all was well with a worker when something failed on it.

    Args:
        jobs: What is known.
        address: The worker.
        since: When it failed.

    Returns:
        None while that is not known yet.
    """
    job = jobs.at(address)
    if job is None or jobs.notices.silence:
        return False
    return job.running if jobs.answered_at > since + GOING_S else None
