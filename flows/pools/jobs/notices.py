"""What users are told while jobs wait: the scheduler is silent, nothing starts, one never will.

None of these is an error: a run waits, and its page says for what.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aimspax_core.text import duration_text
from flows.pools.jobs.job import Job
from flows.pools.jobs.scheduler import State

_SILENCE_S = 60.0
"""A scheduler is busy now and then; users are told when it has been silent for so long."""


@dataclass(frozen=True)
class Tell:
    """Something that users should know.

    Attributes:
        level: As `logging` has it.
        text: In whole words.
        output_of: A job whose output says more.
    """

    level: int
    text: str
    output_of: Job | None = None


@dataclass(frozen=True)
class Notices:
    """What users have been told, and when it is time to tell more; times as in `Job`.

    Attributes:
        quiet_since: When a job last began, or none waited.
        due_s: After how much time without a job that begins users are told (s).
        silent_since: Since when the scheduler has not answered; None while it answers.
        silence_told: Whether users know that it does not answer.
        reasons_told: Reasons for which a job will never start, which users know.
    """

    quiet_since: float
    due_s: float
    silent_since: float | None = None
    silence_told: bool = False
    reasons_told: frozenset[str] = frozenset()

    @property
    def silence(self) -> bool:
        """Whether the scheduler did not answer when it was last asked."""
        return self.silent_since is not None


def silent(notices: Notices, scheduler: str, why: str, now: float) -> tuple[Notices, list[Tell]]:
    """Note that the scheduler does not answer; users are told after a while, and once.

    Args:
        notices: What has been told.
        scheduler: What users call the scheduler.
        why: What its command said.
        now: The time.
    """
    since = now if notices.silent_since is None else notices.silent_since
    notices = replace(notices, silent_since=since)
    if now - since <= _SILENCE_S or notices.silence_told:
        return notices, []
    text = f"{scheduler} does not answer ({why}); what runs goes on"
    return replace(notices, silence_told=True), [Tell(logging.WARNING, text)]


def answered(notices: Notices, scheduler: str) -> tuple[Notices, list[Tell]]:
    """Note that the scheduler answers."""
    told = [Tell(logging.INFO, f"{scheduler} answers again")] if notices.silence_told else []
    return replace(notices, silent_since=None, silence_told=False), told


def began(notices: Notices, patience_s: float, now: float) -> Notices:
    """Note that a job has begun, or that none waits."""
    return replace(notices, quiet_since=now, due_s=patience_s)


def about_queue(
    notices: Notices, jobs: Sequence[Job], patience_s: float, now: float
) -> tuple[Notices, list[Tell]]:
    """Tell what keeps jobs from starting, if it is time.

    Args:
        notices: What has been told.
        jobs: All jobs that wait or run.
        patience_s: How long nothing may start before users are told (s).
        now: The time.
    """
    waiting = [job for job in jobs if job.state is State.WAITING]
    if not waiting:
        return began(notices, patience_s, now), []
    tells = []
    for job in waiting:
        if job.stuck and job.reason not in notices.reasons_told:
            notices = replace(notices, reasons_told=notices.reasons_told | {job.reason})
            text = f"{job} will not start as it is: {job.reason}; see slurm_str"
            tells.append(Tell(logging.WARNING, text))
    quiet = now - max(notices.quiet_since, min(job.submitted_at for job in waiting))
    if quiet >= notices.due_s:
        notices = replace(notices, due_s=2 * quiet)
        reasons = ", ".join(sorted({job.reason for job in waiting}))
        text = (
            f"no {waiting[0].scheduler} job has started for {duration_text(quiet)}: "
            f"{len(waiting)} wait ({reasons}), {sum(job.running for job in jobs)} run"
        )
        tells.append(Tell(logging.WARNING, text))
    return notices, tells
