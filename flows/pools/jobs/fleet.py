"""The Slurm jobs of a pool: as many as there is work for, replaced when they die, given back idle.

What Slurm lists is the truth about jobs; Dask only tells which workers have come. When Slurm does
not answer, everything stays as it is until it does.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from aimspax_core.labels.tries import Fate
from aimspax_core.settings.cluster import SlurmJobs
from flows.pools.jobs import slurm
from flows.pools.jobs.job import SUBMITTED, Block, ending, left_in_time, requeued, told
from flows.pools.jobs.notices import Notices
from flows.pools.jobs.script import BlockCluster
from flows.pools.jobs.slurm import (
    ENDED,
    RUNNING,
    WAITING,
    Listed,
    SlurmRefusedError,
    SlurmSilentError,
)
from flows.pools.pool import Pool
from flows.pools.preload import REFUSED
from flows.pools.workers import WorkerLostError
from flows.server.api import silence

LOOK_S, SOON_S = 10.0, 2.0
"""From one look at Slurm to the next: as a rule, and while something is on the move."""

_FAILURES = 5
"""So many looks in a row that fail are no accident."""

_AT_ONCE = 8
"""Jobs that are submitted in one go."""

_STILLBORN = 3
"""So many jobs in a row that end before their worker has come are no accident."""

_UNLISTED_S = 60.0
"""A job that was submitted, and that Slurm does not list for so long, is gone."""

_ALONE_S = 900.0
"""A job that runs without a worker for so long is of no use."""

_STUCK_S = 120.0
"""A job that ends for so long does not count any more: another takes its place."""

_HUNG_S = 10.0
"""Of several workers of a job one may die; by then the job itself would be known to end."""

_GOING_S = 2.0
"""So long after its engine a job that ends is not listed as running any more."""

_ENDING_S = 75.0
"""Slurm may be ending a job for minutes before it says why; so long that is waited for."""

_TAIL = 12
"""Lines of a job's output that are told when it fails."""

log = logging.getLogger("aimspax")


@dataclass(frozen=True)
class Patience:
    """How long a pool waits before it does something (s): see CLUSTER in the settings.

    Attributes:
        idle: Before a job that has nothing to do is given back.
        queue: Before it is told that nothing starts.
    """

    idle: float
    queue: float


class Fleet:
    """The jobs of a pool, watched by a thread of its own.

    Args:
        name: Of the pool.
        cluster: The scheduler, which makes scripts.
        block: What the settings say of the jobs.
        folder: Where scripts lie; jobs are known by them.
        logs: Where jobs write their output.
        patience: How long it waits before it does something.
        steps: Whether its tasks start programs by Slurm (`srun`).
    """

    def __init__(
        self,
        name: str,
        cluster: BlockCluster,
        block: SlurmJobs,
        folder: Path,
        logs: Path,
        patience: Patience,
        steps: bool = True,
    ) -> None:
        self._name, self._cluster, self._block = name, cluster, block
        assert cluster.scheduler is not None
        self._scheduler: Scheduler = cluster.scheduler
        self._folder, self._logs, self._patience = folder, logs, patience
        self._steps = steps
        self._jobs: dict[str, Block] = {}
        self._asked: dict[str, float] = {}  # since when a worker has been missed, by address
        self._homes: dict[str, str] = {}  # the job of each worker that ever was, by address
        self._newest: dict[str, str] = {}  # the last worker that came of each job
        self._pool: Pool | None = None
        self._made = self._stillborn = 0
        self._first = True
        self._look_now, self._closed = threading.Event(), False
        self._retry_at = self._retry_s = 0.0
        self._notices = Notices(patience.queue)
        self._answered_at = 0.0
        self._surplus_since: float | None = None
        self._thread: threading.Thread | None = None

    # --- what the pool asks

    def explain(self, address: str) -> WorkerLostError | None:
        """See `Workforce.explain`."""
        job = self._job_of(address)
        if job is None:
            return WorkerLostError("its worker died", Fate.DIED)
        self._look_now.set()
        if self._block.slots == 1 and self._newest[job.name] != address:
            return requeued(job)  # its job runs once more already
        asked = self._asked.setdefault(address, time.monotonic())
        if self._answered_at > asked + _GOING_S and job.nearly_over(self._block.walltime_s):
            return left_in_time(job, self._block.walltime_s)
        hung = self._block.slots > 1 and job.running and self._answered_at > asked + _HUNG_S
        if hung and not job.nearly_over(self._block.walltime_s):
            return WorkerLostError(f"a worker of {job} died", Fate.DIED)
        if job.state == "COMPLETING" and time.monotonic() > asked + _ENDING_S:
            return WorkerLostError(f"{job} was ended by Slurm", Fate.INTERRUPTED)
        return told(job, self._block.walltime_s, self._notices.silence)

    def room(self, address: str, seconds: float | None) -> bool:
        """See `Workforce.room`; what takes longer than any job lasts may begin in a new one."""
        if self._steps and self._notices.silence:
            return False  # srun needs Slurm's controller
        job = self._job_of(address)
        if job is None or job.leaving or job.state not in RUNNING | WAITING | {SUBMITTED}:
            return False
        return job.fits(seconds, self._block.walltime_s)

    def sound(self, address: str, since: float) -> bool | None:
        """See `Workforce.sound`."""
        job = self._job_of(address)
        if job is None or self._notices.silence:
            return False
        if self._answered_at > since + _GOING_S:
            return job.running
        self._look_now.set()
        return None

    def rows(self) -> list[dict[str, str]]:
        """See `Workforce.rows`: those that are there, and the last that ended."""
        jobs = list(self._jobs.values())  # in the order of their submission
        ended = [job for job in jobs if not job.live][-10:]
        return [job.row for job in jobs if job.live or job in ended]

    def dismiss(self) -> None:
        """See `Workforce.dismiss`; the guard makes sure of it later."""
        self._closed = True
        with contextlib.suppress(SlurmSilentError, SlurmRefusedError):
            slurm.cancel([job.id for job in self._live() if job.id], timeout_s=5.0)

    # --- the thread

    def start(self, pool: Pool) -> None:
        """Begin to have jobs for a pool."""
        self._pool = pool
        self._cluster.sync(self._attach)
        target = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=target, args=(self._serve,), name=f"{self._name}-jobs", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Submit nothing more; the jobs that are there are cancelled by the guard."""
        self._closed = True
        self._look_now.set()
        if self._thread is not None:
            self._thread.join(5.0)  # a command of Slurm may hang; nothing follows from it any more

    async def _attach(self) -> None:
        self._scheduler.add_plugin(_Arrivals(self._arrived))

    def _arrived(self, address: str, name: str) -> None:
        """Note whose worker has come; a job with several has a number behind its name."""
        home = name if name in self._jobs else name.rpartition("-")[0]
        self._homes[address] = home
        self._newest[home] = address
        if home in self._jobs:
            self._jobs[home].staffed = True
            self._stillborn = 0
        self._look_now.set()

    def _serve(self) -> None:
        assert self._pool is not None
        failures = 0
        while not self._closed:
            began = time.monotonic()
            try:
                self._look()
                failures = 0
            # A disk may be full for a moment; but a pool without jobs would wait for ever.
            except Exception as error:
                log.debug("the jobs of the %s pool", self._name, exc_info=True)
                failures += 1
                if failures >= _FAILURES:
                    self._pool.trouble = f"the Slurm jobs: {type(error).__name__}: {error}"
                    return
            self._look_now.wait(SOON_S if self._moving() else LOOK_S)
            self._look_now.clear()
            time.sleep(max(0.0, min(1.0, began + 1.0 - time.monotonic())))  # Slurm is spared

    def _moving(self) -> bool:
        """Tell whether something will change soon."""
        now = time.monotonic()
        fresh = any(now - job.submitted < 30 and not job.staffed for job in self._live())
        return fresh or any(job.running and not job.staffed for job in self._live())

    def _look(self) -> None:
        """Learn what has become of the jobs, and have as many as are wanted."""
        began = time.monotonic()
        try:
            listed = slurm.jobs(self._folder)
        except SlurmSilentError as error:
            self._notices.silent(str(error))
            return
        self._notices.answered()
        self._learn(listed)
        self._answered_at = began
        self._watch_idle()
        self._give_back()
        if self._pool is not None and not self._pool.trouble:
            self._submit()
        self._notices.queue(self._live())

    # --- what has become of them

    def _learn(self, listed: list[Listed]) -> None:
        now = time.monotonic()
        there = {entry.script.stem: entry for entry in listed}
        for name, job in self._jobs.items():
            entry = there.get(name)
            if entry is not None:
                self._note(job, entry, now)
            elif job.state not in ENDED and now - max(job.submitted, job.seen) > _UNLISTED_S:
                job.state, job.reason = "CANCELLED", "Slurm does not know it any more"
                self._ended(job)

    def _note(self, job: Block, entry: Listed, now: float) -> None:
        before, job.state, job.id = job.state, entry.state, entry.id
        job.reason, job.nodes, job.seen = entry.reason, entry.nodes, now
        running = entry.state in RUNNING
        job.deadline = now + entry.left_s if running and entry.left_s is not None else None
        job.ends = job.deadline or (None if entry.state in WAITING else job.ends)
        leaving = entry.state == "COMPLETING"
        job.ending_since = (job.ending_since or now) if leaving else None
        again = entry.state in WAITING or (running and entry.start != job.start)
        if job.began is not None and again:  # it may be running once more already
            log.warning("%s", requeued(job))
            if not running:
                self._dismiss(job)
            job.began, job.staffed, job.requeued = None, bool(self._workers(job)), True
            job.used = False
        if running and job.began is None:
            job.began, job.start = now, entry.start
            self._notices.began()
            log.info("%s began on %s", job, entry.nodes)
        if entry.state in ENDED and before not in ENDED:
            self._ended(job)

    def _ended(self, job: Block) -> None:
        """Say how a job ended, and whether the next one could do better."""
        self._dismiss(job)
        if job.leaving:
            return
        how = ending(job, self._block.walltime_s)
        level = logging.INFO if job.state in {"COMPLETED", "TIMEOUT"} else logging.WARNING
        log.log(level, "%s %s", job, how)
        refused = self._folder / REFUSED
        assert self._pool is not None
        if refused.exists():
            self._pool.trouble = refused.read_text(encoding="utf-8")
        elif job.state in {"FAILED", "COMPLETED", "OUT_OF_MEMORY", "TIMEOUT"}:
            self._count_stillborn(job, how)

    def _count_stillborn(self, job: Block, how: str) -> None:
        """Count a job that ended before its worker came; a few in a row are no accident.

        While Prefect is away no worker starts, and no job is to blame.
        """
        assert self._pool is not None
        if job.staffed:
            return
        api = os.environ.get("PREFECT_API_URL", "")
        if api and (away := silence(api)):
            self._retry_at = time.monotonic() + 60.0
            log.warning("%s: the Prefect API does not answer (%s)", job, away)
            return
        self._stillborn += 1
        if self._stillborn >= _STILLBORN:
            self._pool.trouble = (
                f"{self._stillborn} Slurm jobs in a row ended before their worker started; "
                f"{job} {how}. {self._output(job)}"
            )

    def _output(self, job: Block) -> str:
        """Return the end of what a job printed, which says why it failed."""
        files = sorted(self._logs.glob(f"slurm-*-{job.id}.out"))
        if not files:
            return "Its output is where slurm_str says."
        lines = files[0].read_text(encoding="utf-8", errors="replace").splitlines()
        if not lines:
            return f"It printed nothing ({files[0]}); does worker_str end before its last line?"
        return "\n".join([f"The end of {files[0]}:", *lines[-_TAIL:]])

    def _dismiss(self, job: Block) -> None:
        """Have Dask forget the workers of a job that does not run any more.

        After the failure of a node nobody has told it; it would wait for minutes.
        """
        for address in self._workers(job):
            self._cluster.sync(self._scheduler.remove_worker, address=address, stimulus_id="slurm")

    def _workers(self, job: Block) -> list[str]:
        return [one for one in list(self._scheduler.workers) if self._homes.get(one) == job.name]

    # --- how many there are

    def _live(self) -> list[Block]:
        """Return the jobs that count; one that Slurm does not get rid of does not."""
        stuck = time.monotonic() - _STUCK_S
        jobs = [job for job in self._jobs.values() if job.live]
        return [job for job in jobs if job.ending_since is None or job.ending_since > stuck]

    def _job_of(self, address: str) -> Block | None:
        return self._jobs.get(self._homes.get(address, ""))

    def _wanted(self) -> int:
        """Return how many jobs there is work for, within what the settings allow."""
        assert self._pool is not None
        blocks = self._block.blocks
        wanted = math.ceil(self._pool.outstanding / self._block.slots)
        least = blocks.init_blocks if self._first else blocks.min_blocks
        return max(least, min(wanted, blocks.max_blocks))

    def _lasting(self, job: Block) -> bool:
        """Tell whether a job will take more work; one that will not is replaced in time."""
        assert self._pool is not None
        if not job.running:
            return True
        line = self._pool.waiting()
        wanted = [ticket.seconds() for ticket in line] or [None]
        return any(job.fits(seconds, self._block.walltime_s) for seconds in wanted)

    def _watch_idle(self) -> None:
        assert self._pool is not None
        now = time.monotonic()
        for job in self._jobs.values():
            own = self._workers(job)
            busy = any(map(self._pool.busy, own))
            job.used = job.used or busy
            idle = job.running and bool(own) and not busy
            job.idle_since = (job.idle_since or now) if idle else None
            alone = job.running and not own
            job.alone_since = (job.alone_since or now) if alone else None

    def _give_back(self) -> None:
        """Cancel what nobody needs: jobs that are idle, wait for nothing, or are spent."""
        now, live = time.monotonic(), self._live()
        surplus = len(live) - self._wanted()
        self._surplus_since = (self._surplus_since or now) if surplus > 0 else None
        idle = [job for job in live if job.idle_since is not None]
        spent = [job for job in idle if not self._lasting(job)]
        leave = list(spent)
        surplus -= len(spent)
        rested = [
            job
            for job in idle
            if job not in spent and now - (job.idle_since or now) >= self._patience.idle
        ]
        leave += rested[: max(0, surplus)]
        surplus -= len(rested[: max(0, surplus)])
        if self._surplus_since is not None and now - self._surplus_since >= self._patience.idle:
            pending = [job for job in live if job.state == "PENDING" and job.id]
            leave += pending[::-1][: max(0, surplus)]
        for job in live:
            if job.alone_since is not None and now - job.alone_since > _ALONE_S:
                log.warning("%s has no worker. %s", job, self._output(job))
                self._return(job, "it has no worker")
                self._count_stillborn(job, "has no worker")
        for job in leave:
            self._return(job, "its time is nearly over" if job in spent else "nothing to do")

    def _return(self, job: Block, why: str) -> None:
        """Have Slurm end a job, unless it was given work this moment."""
        assert self._pool is not None
        job.leaving = True  # from here on it gets none
        if not job.id or any(map(self._pool.busy, self._workers(job))):
            job.leaving = False
            return
        try:
            slurm.cancel([job.id])
        except (SlurmSilentError, SlurmRefusedError) as error:
            log.debug("scancel: %s", error)
            job.leaving = False
        else:
            log.info("%s is given back: %s", job, why)

    def _submit(self) -> None:
        """Submit as many jobs as are missing; what is spent is replaced while it still computes."""
        now, live = time.monotonic(), self._live()
        missing = self._wanted() - sum(self._lasting(job) for job in live)
        missing = min(missing, self._block.blocks.max_blocks - len(live), _AT_ONCE)
        if missing <= 0 or now < self._retry_at:
            return
        for _ in range(missing):
            if self._closed or not self._submit_one():
                return
        self._first, self._retry_s = self._made < self._block.blocks.init_blocks, 0.0

    def _submit_one(self) -> bool:
        assert self._pool is not None
        name = f"{self._name}-{self._made}"
        self._made += 1
        script = self._folder / f"{name}.sh"
        script.write_text(self._cluster.script(name), encoding="utf-8")
        job = Block(name, script, time.monotonic())
        self._jobs[name] = job
        try:
            job.id = slurm.submit(script)
        except SlurmRefusedError as error:
            del self._jobs[name]
            if any(other.id for other in self._jobs.values()):  # it was taken before
                self._later(str(error))
            else:
                self._pool.trouble = f"Slurm refuses the jobs of the {self._name} pool: {error}"
            return False
        except SlurmSilentError as error:  # it may have taken it all the same: the queue will tell
            self._later(str(error))
            return False
        log.info("%s was submitted for the %s pool", job, self._name)
        return True

    def _later(self, why: str) -> None:
        self._retry_s = min(300.0, max(15.0, 2 * self._retry_s))
        self._retry_at = time.monotonic() + self._retry_s
        log.warning("Slurm takes no further job now (%s); trying again", why)


class _Arrivals(SchedulerPlugin):
    """Tells a fleet which workers come."""

    def __init__(self, arrived: Callable[[str, str], None]) -> None:
        self._arrived = arrived

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        self._arrived(worker, str(scheduler.workers[worker].name))
