"""The jobs of a pool: as many as there is work for, replaced when they die, given back when idle.

What the scheduler lists is the truth about jobs; Dask only says which workers have come. While the
scheduler does not answer, everything stays as it is. `rules` decides; what is here does it.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from distributed import Scheduler as DaskScheduler
from distributed.deploy.spec import SpecCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from flows.pools.jobs import answers, fleet_rules
from flows.pools.jobs.job import Job, jobs_text
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
from flows.pools.jobs.notices import Notices, Tell
from flows.pools.jobs.scheduler import Scheduler, SchedulerRefusedError, SchedulerSilentError
from flows.pools.preload import REFUSED
from flows.pools.workers import WorkerLostError
from flows.server.api import silence

LOOK_S, SOON_S = 10.0, 2.0
"""From one look at the scheduler to the next: as a rule, and while something is on the move."""

_FAILURES = 5
"""So many looks in a row that fail are no accident."""

_ENDED = 10
"""Jobs that have ended and are shown still: the last."""

_TAIL = 12
"""Lines of a job's output that users are shown when it fails."""

log = logging.getLogger("aimspax")


class Work(Protocol):
    """The tasks that a fleet has jobs for."""

    def demand(self) -> Demand:
        """Return what waits and runs."""
        ...

    def busy(self, address: str) -> bool:
        """Tell whether a worker has a task."""
        ...


class Fleet:
    """The jobs of a pool, watched by a thread of its own from `with` to the end of the block.

    It is the `Workforce` of its pool.

    Args:
        policy: What the settings say of the jobs.
        scheduler: What starts them.
        cluster: The Dask cluster whose workers they are.
        script: Returns the script of the job whose worker has a name.
        work: The tasks of the pool.
        folder: Where scripts lie; jobs are known by them.
        output: Where jobs write their output: the file of a job is `<output><id>.out`.
    """

    def __init__(
        self,
        policy: Policy,
        scheduler: Scheduler,
        cluster: SpecCluster,
        script: Callable[[str], str],
        work: Work,
        folder: Path,
        output: str,
    ) -> None:
        self._policy, self._queue, self._cluster = policy, scheduler, cluster
        self._script, self._work = script, work
        self._folder, self._output = folder, output
        assert cluster.scheduler is not None
        self._dask: DaskScheduler = cluster.scheduler
        self._jobs = Jobs(Notices(time.monotonic(), policy.notice_s))
        self._lock = threading.Lock()  # of `_jobs`; what it holds is never changed in place
        self._missed: dict[str, float] = {}  # since when a worker has been missed, by address
        self._look_now, self._closed = threading.Event(), False
        target = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=target, args=(self._serve,), name=f"{policy.pool}-jobs", daemon=True
        )

    def __enter__(self) -> Self:
        self._cluster.sync(self._attach)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Submit nothing more; the cleaner cancels the jobs that are there."""
        self.stop()
        self._thread.join(5.0)  # a command may hang; nothing follows from it any more

    def stop(self) -> None:
        """Submit nothing more."""
        self._closed = True
        self._look_now.set()

    def follow(self, policy: Policy) -> None:
        """Have as many jobs as another policy says; the first ones are there already."""
        self._policy = replace(policy, first=self._policy.first)
        self._look_now.set()

    # --- what the pool asks

    @property
    def trouble(self) -> str:
        """See `Workforce.trouble`."""
        return self._jobs.trouble

    def explain(self, address: str) -> WorkerLostError | None:
        """See `Workforce.explain`."""
        now = time.monotonic()
        self._look_now.set()
        missed_since = self._missed.setdefault(address, now)
        return answers.explain(self._jobs, address, missed_since, now, self._policy)

    def room(self, address: str, seconds: float | None) -> bool:
        """See `Workforce.room`."""
        return answers.room(self._jobs, address, seconds, time.monotonic(), self._policy)

    def sound(self, address: str, since: float) -> bool | None:
        """See `Workforce.sound`."""
        found = answers.sound(self._jobs, address, since)
        if found is None:
            self._look_now.set()
        return found

    def rows(self) -> list[dict[str, str]]:
        """See `Workforce.rows`: jobs that are there, then the last that ended; the latest first."""
        jobs, now = [*self._jobs.by_name.values()][::-1], time.monotonic()
        there, ended = [job for job in jobs if job.live], [job for job in jobs if not job.live]
        return [job.row(now) for job in (*there, *ended[:_ENDED])]

    def told(self) -> str:
        """See `Workforce.told`."""
        return jobs_text(self._jobs.by_name.values())

    def dismiss(self) -> None:
        """See `Workforce.dismiss`; the cleaner makes sure of it later."""
        self._closed = True
        live = [job for job in self._jobs.by_name.values() if job.live]
        for job in live:
            self._mark_leaving(job, "the run has ended")
        ids = [job.id for job in live if job.id]
        with contextlib.suppress(SchedulerSilentError, SchedulerRefusedError):
            self._queue.cancel(ids, timeout_s=5.0)

    # --- the thread

    async def _attach(self) -> None:
        self._dask.add_plugin(_Arrivals(self._arrived))

    def _arrived(self, address: str, worker: str) -> None:
        self._change(lambda jobs: fleet_rules.arrived(jobs, address, worker))
        self._look_now.set()

    def _change(self, rule: Callable[[Jobs], Jobs]) -> None:
        """Change what is known; threads take turns, so that none undoes what another has noted."""
        with self._lock:
            self._jobs = rule(self._jobs)

    def _apply(self, rule: Callable[[Jobs], tuple[Jobs, Sequence[Action]]]) -> None:
        """Change what is known by a rule, and do what it says."""
        with self._lock:
            self._jobs, actions = rule(self._jobs)
        for action in actions:
            self._do(action)

    def _serve(self) -> None:
        failures = 0
        while not self._closed:
            began = time.monotonic()
            try:
                self._look()
                failures = 0
            # A disk may be full for a moment; but a pool without jobs would wait for ever.
            except Exception as error:
                log.debug("the jobs of the %s pool", self._policy.pool, exc_info=True)
                failures += 1
                if failures >= _FAILURES:
                    log.exception("the jobs of the %s pool", self._policy.pool)
                    title = self._policy.scheduler
                    self._give_up(f"the {title} jobs: {type(error).__name__}: {error}")
                    return
            soon = fleet_rules.moving(self._jobs, time.monotonic())
            self._look_now.wait(SOON_S if soon else LOOK_S)
            self._look_now.clear()
            time.sleep(max(0.0, min(1.0, began + 1.0 - time.monotonic())))  # it is spared

    def _look(self) -> None:
        """Learn what has become of the jobs, and have as many as are wanted."""
        policy, asked_at = self._policy, time.monotonic()
        try:
            listing = self._queue.jobs(self._folder)
        except SchedulerSilentError as error:
            why, now = str(error), time.monotonic()
            self._apply(lambda jobs: fleet_rules.silent(jobs, why, now, policy))
            return
        now, crews, refused = time.monotonic(), self._crews(), self._refused()
        self._apply(
            lambda jobs: fleet_rules.learn(jobs, listing, asked_at, now, policy, crews, refused)
        )
        demand, crews = self._work.demand(), self._crews()
        self._apply(lambda jobs: fleet_rules.trim(jobs, now, policy, demand, crews))
        self._apply(lambda jobs: fleet_rules.grow(jobs, time.monotonic(), policy, demand))

    def _crews(self) -> dict[str, Crew]:
        """Return the workers that are there, by the name of their job."""
        homes, there = self._jobs.homes, list(self._dask.workers)
        number = Counter(homes[address] for address in there if address in homes)
        busy = {homes.get(address) for address in there if self._work.busy(address)}
        return {name: Crew(count, name in busy) for name, count in number.items()}

    def _refused(self) -> str:
        """Return why a worker has said that it does not fit the flow; empty if none has."""
        file = self._folder / REFUSED
        return file.read_text(encoding="utf-8") if file.exists() else ""

    # --- what the rules ask for

    def _do(self, action: Action) -> None:
        match action:
            case Tell(level, text, output_of):
                log.log(level, "%s", self._with_output(text, output_of))
            case Forget(job):
                self._forget(job)
            case Blame(job, how):
                self._blame(job, how)
            case GiveBack(job, why):
                self._give_back(job, why)
            case Submit(number):
                self._submit(number)
            case GiveUp(text, output_of):
                self._give_up(self._with_output(text, output_of))

    def _forget(self, job: Job) -> None:
        homes = self._jobs.homes
        for address in list(self._dask.workers):
            if homes.get(address) == job.name:
                self._cluster.sync(self._dask.remove_worker, address=address, stimulus_id="jobs")

    def _blame(self, job: Job, how: str) -> None:
        api = os.environ.get("PREFECT_API_URL", "")
        away, now = (silence(api) or "") if api else "", time.monotonic()
        self._apply(lambda jobs: fleet_rules.blamed(jobs, job, how, away, now, self._policy))

    def _give_back(self, job: Job, why: str) -> None:
        self._mark_leaving(job, why)  # from here on it gets no task
        if not job.id or self._crews().get(job.name, Crew()).busy:
            self._mark_leaving(job, "")
            return
        try:
            self._queue.cancel([job.id])
        except (SchedulerSilentError, SchedulerRefusedError) as error:
            log.debug("cancelling %s: %s", job, error)
            self._mark_leaving(job, "")
        else:
            log.info("%s is given back: %s", job, why)

    def _mark_leaving(self, job: Job, why: str) -> None:
        """Note why a job is given back; with an empty text, that it is not."""

        def mark(jobs: Jobs) -> Jobs:
            before = jobs.by_name[job.name]
            return jobs.having(replace(before, leaving=bool(why), given_back=why))

        self._change(mark)

    def _submit(self, number: int) -> None:
        for _ in range(number):
            if self._closed or not self._submit_one():
                return
        self._change(fleet_rules.all_taken)

    def _submit_one(self) -> bool:
        """Submit a job; return whether it was taken."""
        policy = self._policy
        name = f"{policy.pool}-{self._jobs.made}"
        self._change(lambda jobs: replace(jobs, made=jobs.made + 1))
        script = self._folder / f"{name}.sh"
        script.write_text(self._script(name), encoding="utf-8")
        now = time.monotonic()
        self._change(lambda jobs: fleet_rules.submitted(jobs, name, now, policy))
        try:
            id_ = self._queue.submit(script)
        except SchedulerRefusedError as error:
            why, now = str(error), time.monotonic()
            self._apply(lambda jobs: fleet_rules.refused(jobs, name, why, now, policy))
            return False
        except SchedulerSilentError as error:  # it may have taken it: its list will show
            why, now = str(error), time.monotonic()
            self._apply(lambda jobs: fleet_rules.later(jobs, why, now, policy))
            return False
        self._apply(lambda jobs: fleet_rules.taken(jobs, name, id_, policy))
        return True

    def _give_up(self, trouble: str) -> None:
        self._change(lambda jobs: replace(jobs, trouble=trouble))

    def _with_output(self, text: str, job: Job | None) -> str:
        """Return a text with the end of what a job printed, which says why the job failed."""
        if job is None:
            return text
        file = Path(f"{self._output}{job.id}.out")
        if not file.exists():
            return f"{text} Its output is where slurm_str says."
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        if not lines:
            return f"{text} It printed nothing ({file}); does worker_str end before its last line?"
        return "\n".join([f"{text} The end of {file}:", *lines[-_TAIL:]])


class _Arrivals(SchedulerPlugin):
    """Tells a fleet which workers come."""

    def __init__(self, arrived: Callable[[str, str], None]) -> None:
        self._arrived = arrived

    def add_worker(self, scheduler: DaskScheduler, worker: str) -> None:
        self._arrived(worker, str(scheduler.workers[worker].name))
