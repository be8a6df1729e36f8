"""What is told of Slurm: that it does not answer, that nothing starts, that something never will.

None of it is an error: a run waits, and its page says for what.
"""

from __future__ import annotations

import logging
import time

from aimspax_core.text import duration_text
from flows.pools.jobs.job import Block

_NEVER = frozenset(
    {"PartitionConfig", "PartitionTimeLimit", "PartitionNodeLimit", "BadConstraints"}
    | {"InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed"}
    | {"QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit"}
    | {"JobHeldUser", "JobHeldAdmin", "DependencyNeverSatisfied"}
)
"""Reasons of a job that waits which do not go away by themselves."""

_SILENCE_S = 60.0
"""Slurm is busy now and then; after so long it is told."""

log = logging.getLogger("aimspax")


class Notices:
    """What was told, and when it is time to tell it again.

    Args:
        patience_s: How long nothing may start before that is told.

    Attributes:
        silence: Whether Slurm has not answered when it was last asked.
    """

    def __init__(self, patience_s: float) -> None:
        self.silence = False
        self._patience_s = self._due_s = patience_s
        self._silent_since = 0.0
        self._told_silence = False
        self._told_reasons: set[str] = set()
        self._quiet_since = time.monotonic()

    def silent(self, why: str) -> None:
        """Note that Slurm does not answer; tell it after a while, once."""
        now = time.monotonic()
        if not self.silence:
            self.silence, self._silent_since = True, now
        if now - self._silent_since > _SILENCE_S and not self._told_silence:
            self._told_silence = True
            log.warning("Slurm does not answer (%s); what runs goes on", why)

    def answered(self) -> None:
        """Note that Slurm answers."""
        if self._told_silence:
            log.info("Slurm answers again")
        self.silence = self._told_silence = False

    def began(self) -> None:
        """Note that a job has started."""
        self._quiet_since, self._due_s = time.monotonic(), self._patience_s

    def queue(self, jobs: list[Block]) -> None:
        """Tell what keeps jobs from starting, if it is time.

        Args:
            jobs: All that wait or run.
        """
        waiting = [job for job in jobs if job.state == "PENDING"]
        if not waiting:
            self.began()
            return
        for job in waiting:
            if job.reason in _NEVER and job.reason not in self._told_reasons:
                self._told_reasons.add(job.reason)
                log.warning("%s will not start as it is: %s; see slurm_str", job, job.reason)
        since = max(self._quiet_since, min(job.submitted for job in waiting))
        quiet = time.monotonic() - since
        if quiet >= self._due_s:
            self._due_s = 2 * quiet
            reasons = ", ".join(sorted({job.reason for job in waiting}))
            log.warning(
                "no Slurm job has started for %s: %d wait (%s), %d run",
                *(duration_text(quiet), len(waiting), reasons, sum(job.running for job in jobs)),
            )
