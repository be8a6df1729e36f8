"""The rules of a fleet of jobs: how many there are, which are given back, what an end means.

Pure, as the rules of a campaign are: no clock, no thread, no scheduler, no file. A function takes
what is known and returns what is known then, and what is to be done about it. `Fleet` does it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flows.pools.jobs import notices as tell
from flows.pools.jobs.job import Job
from flows.pools.jobs.ledger import (
    Action,
    Blame,
    Crew,
    Demand,
    Forget,
    GiveBack,
    GiveUp,
    Jobs,
    Policy,
    Submit,
)
from flows.pools.jobs.notices import Tell
from flows.pools.jobs.scheduler import Listed, State

AT_ONCE = 8
"""Jobs that are submitted in one go."""

STILLBORN = 3
"""So many jobs in a row that end before their worker has come are no accident."""

UNLISTED_S = 60.0
"""A job that was submitted, and that the scheduler does not list for so long, is gone."""

ALONE_S = 900.0
"""A job that runs without a worker for so long is of no use."""

API_AWAY_S = 60.0
"""So long no job is submitted after one whose worker did not find the Prefect API."""

RETRY_S = (15.0, 300.0)
"""Shortest and longest time before a job is submitted again that was not taken."""

_HAD_A_CHANCE = {State.FAILED, State.COMPLETED, State.OUT_OF_MEMORY, State.OUT_OF_TIME}
"""Ends of a job that may be the fault of its script."""


# --- what has become of them


def learn(
    jobs: Jobs,
    listing: Sequence[Listed],
    asked_at: float,
    now: float,
    policy: Policy,
    crews: Mapping[str, Crew],
    refused: str = "",
) -> tuple[Jobs, list[Action]]:
    """Take in what the scheduler lists.

    Args:
        jobs: What was known.
        listing: The jobs that the scheduler lists.
        asked_at: When it was asked for them.
        now: When it had answered.
        policy: What the settings say.
        crews: The workers that are there, by the name of their job.
        refused: Why a worker has said that it does not fit the flow; empty if none has.
    """
    notices, actions = tell.answered(jobs.notices, policy.scheduler)
    jobs = replace(jobs, notices=notices, answered_at=asked_at)
    todo: list[Action] = [*actions]
    there = {entry.script.stem: entry for entry in listing}
    for before in jobs.by_name.values():
        entry = there.get(before.name)
        job, more = before, list[Action]()
        if entry is not None:
            job, more = _noted(before, entry, now, crews.get(before.name, Crew()))
        elif not before.state.is_over and now - _last_seen(before) > UNLISTED_S:
            reason = f"{policy.scheduler} does not know it any more"
            job = replace(before, state=State.CANCELLED, state_text="", reason=reason)
        if job.began_at is not None and job.began_at != before.began_at:
            jobs = replace(jobs, notices=tell.began(jobs.notices, policy.notice_s, now))
        if job.state.is_over and not before.state.is_over:
            more += _at_end(job, refused)
        jobs = jobs.having(job)
        todo += more
    return jobs, todo


def _last_seen(job: Job) -> float:
    return max(job.submitted_at, job.listed_at)


def _noted(job: Job, entry: Listed, now: float, crew: Crew) -> tuple[Job, list[Action]]:
    """Take in what the scheduler lists of one job."""
    running, waiting = entry.state is State.RUNNING, entry.state is State.WAITING
    again = job.began_at is not None and (waiting or (running and entry.start != job.start))
    ends_at = job.ends_at if not (running or waiting) else None
    if running and entry.left_s is not None:
        ends_at = now + entry.left_s
    ending = job.ending_since if job.ending_since is not None else now
    job = replace(
        job,
        id=entry.id,
        state=entry.state,
        state_text=entry.state_text,
        reason=entry.reason,
        stuck=entry.stuck,
        nodes=entry.nodes,
        listed_at=now,
        ends_at=ends_at,
        ending_since=ending if entry.state is State.ENDING else None,
    )
    todo: list[Action] = []
    if again:  # it may be running once more already
        todo.append(Tell(logging.WARNING, str(job.requeued_error)))
        if not running:
            todo.append(Forget(job))
        staffed = running and crew.number > 0
        job = replace(job, began_at=None, staffed=staffed, requeued=True, used=False)
    if running and job.began_at is None:
        job = replace(job, began_at=now, start=entry.start)
        todo.append(Tell(logging.INFO, f"{job} began on {entry.nodes}"))
    return job, todo


def _at_end(job: Job, refused: str) -> list[Action]:
    """Say how a job ended, and whether the next one could do better."""
    todo: list[Action] = [Forget(job)]
    if job.leaving:
        return todo
    as_meant = job.state in {State.COMPLETED, State.OUT_OF_TIME}
    level = logging.INFO if as_meant else logging.WARNING
    todo.append(Tell(level, f"{job} {job.ending_text}"))
    if refused:
        todo.append(GiveUp(refused))
    elif job.state in _HAD_A_CHANCE and not job.staffed:
        todo.append(Blame(job, job.ending_text))
    return todo


def blamed(
    jobs: Jobs, job: Job, how: str, away: str, now: float, policy: Policy
) -> tuple[Jobs, list[Action]]:
    """Count a job that has ended before its worker came; a few in a row are no accident.

    While the Prefect API is away no worker starts, and no job is to blame.

    Args:
        jobs: What is known.
        job: The job.
        how: What became of it.
        away: Why the Prefect API does not answer; empty if it does.
        now: The time.
        policy: What the settings say.
    """
    if away:
        text = f"{job}: the Prefect API does not answer ({away})"
        return replace(jobs, retry_at=now + API_AWAY_S), [Tell(logging.WARNING, text)]
    jobs = replace(jobs, stillborn=jobs.stillborn + 1)
    if jobs.stillborn < STILLBORN:
        return jobs, []
    text = (
        f"{jobs.stillborn} {policy.scheduler} jobs in a row ended before their worker started; "
        f"{job} {how}."
    )
    return jobs, [GiveUp(text, job)]


def arrived(jobs: Jobs, address: str, worker: str) -> Jobs:
    """Note that a worker has come; the worker of a job with several has a number at its end."""
    home = worker if worker in jobs.by_name else worker.rpartition("-")[0]
    jobs = replace(jobs, homes={**jobs.homes, address: home})
    job = jobs.by_name.get(home)
    if job is None:
        return jobs
    return replace(jobs.having(replace(job, staffed=True, newest=address)), stillborn=0)


def silent(jobs: Jobs, why: str, now: float, policy: Policy) -> tuple[Jobs, list[Action]]:
    """Note that the scheduler does not answer; everything stays as it is until it does."""
    notices, actions = tell.silent(jobs.notices, policy.scheduler, why, now)
    return replace(jobs, notices=notices), [*actions]


# --- how many there are


def trim(
    jobs: Jobs, now: float, policy: Policy, demand: Demand, crews: Mapping[str, Crew]
) -> tuple[Jobs, list[Action]]:
    """Give back what nobody needs: jobs that are idle, wait for nothing, are spent, or hang.

    Args:
        jobs: What is known.
        now: The time.
        policy: What the settings say.
        demand: The work that there is.
        crews: The workers that are there, by the name of their job.
    """
    jobs = _watched(jobs, now, crews)
    live = jobs.live(now)
    surplus = len(live) - wanted(jobs, policy, demand.outstanding)
    since = _since(jobs.surplus_since, now) if surplus > 0 else None
    todo: list[Action] = []
    for job in live:
        if job.alone_since is not None and now - job.alone_since > ALONE_S:
            todo.append(Tell(logging.WARNING, f"{job} has no worker.", output_of=job))
            todo.append(GiveBack(job, "it has no worker"))
            todo += [] if job.staffed else [Blame(job, "has no worker")]
    idle = [job for job in live if job.idle_since is not None]
    spent = [job for job in idle if not _lasting(job, now, demand)]
    surplus -= len(spent)
    rested = [
        job for job in idle if job not in spent and now - (job.idle_since or 0.0) >= policy.idle_s
    ][: max(0, surplus)]
    surplus -= len(rested)
    useless: list[Job] = []
    if since is not None and now - since >= policy.idle_s:
        waiting = [job for job in live if job.state is State.WAITING and job.id]
        useless = waiting[::-1][: max(0, surplus)]
    todo += [GiveBack(job, "its time is nearly over") for job in spent]
    todo += [GiveBack(job, "nothing to do") for job in (*rested, *useless)]
    return replace(jobs, surplus_since=since), todo


def grow(jobs: Jobs, now: float, policy: Policy, demand: Demand) -> tuple[Jobs, list[Action]]:
    """Submit what is missing, and tell what keeps jobs from starting.

    A job that is spent is replaced while it still computes.

    Args:
        jobs: What is known.
        now: The time.
        policy: What the settings say.
        demand: The work that there is.
    """
    live, todo = jobs.live(now), list[Action]()
    missing = wanted(jobs, policy, demand.outstanding)
    missing -= sum(_lasting(job, now, demand) for job in live)
    missing = min(missing, policy.most - len(live), AT_ONCE)
    if missing > 0 and not jobs.trouble and now >= jobs.retry_at:
        todo.append(Submit(missing))
    notices, tells = tell.about_queue(jobs.notices, live, policy.notice_s, now)
    return replace(jobs, notices=notices), [*todo, *tells]


def wanted(jobs: Jobs, policy: Policy, outstanding: int) -> int:
    """Return how many jobs there is work for, within what the settings allow."""
    first = sum(bool(job.id) for job in jobs.by_name.values()) < policy.first
    least = policy.first if first else policy.least
    return max(least, min(math.ceil(outstanding / policy.slots), policy.most))


def moving(jobs: Jobs, now: float) -> bool:
    """Tell whether something will change soon."""
    new = [job for job in jobs.live(now) if not job.staffed]
    return any(job.running or now - job.submitted_at < 30 for job in new)


def _lasting(job: Job, now: float, demand: Demand) -> bool:
    """Tell whether a job will take more work."""
    if not job.running:
        return True
    return any(job.fits(seconds, now) for seconds in demand.waiting or (None,))


def _watched(jobs: Jobs, now: float, crews: Mapping[str, Crew]) -> Jobs:
    """Note which jobs have nothing to do, and which have no worker."""
    seen = []
    for job in jobs.by_name.values():
        crew = crews.get(job.name, Crew())
        idle = job.running and crew.number > 0 and not crew.busy
        alone = job.running and crew.number == 0
        seen.append(
            replace(
                job,
                used=job.used or crew.busy,
                idle_since=_since(job.idle_since, now) if idle else None,
                alone_since=_since(job.alone_since, now) if alone else None,
            )
        )
    return jobs.having(*seen)


def _since(before: float | None, now: float) -> float:
    return now if before is None else before


# --- what came of a submission


def submitted(jobs: Jobs, name: str, now: float, policy: Policy) -> Jobs:
    """Note that a job is about to be submitted: its script is there."""
    job = Job(name, policy.scheduler, policy.walltime_s, now)
    return jobs.having(job)


def taken(jobs: Jobs, name: str, id_: str, policy: Policy) -> tuple[Jobs, list[Action]]:
    """Note that the scheduler has taken a job."""
    job = replace(jobs.by_name[name], id=id_)
    text = f"{job} was submitted for the {policy.pool} pool"
    return jobs.having(job), [Tell(logging.INFO, text)]


def all_taken(jobs: Jobs) -> Jobs:
    """Note that all jobs were taken that were submitted in one go."""
    return replace(jobs, retry_s=0.0)


def refused(
    jobs: Jobs, name: str, why: str, now: float, policy: Policy
) -> tuple[Jobs, list[Action]]:
    """Note that the scheduler refuses a job: if it took others before, this will pass."""
    others = {other: job for other, job in jobs.by_name.items() if other != name}
    jobs = replace(jobs, by_name=others)
    if any(job.id for job in others.values()):
        return later(jobs, why, now, policy)
    return jobs, [GiveUp(f"{policy.scheduler} refuses the jobs of the {policy.pool} pool: {why}")]


def later(jobs: Jobs, why: str, now: float, policy: Policy) -> tuple[Jobs, list[Action]]:
    """Note that the scheduler takes no job now, or that it is not known whether it has."""
    shortest, longest = RETRY_S
    wait = min(longest, max(shortest, 2 * jobs.retry_s))
    text = f"{policy.scheduler} takes no further job now ({why}); trying again"
    return replace(jobs, retry_s=wait, retry_at=now + wait), [Tell(logging.WARNING, text)]
