"""A pool of workers inside batch jobs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dask

from aimspax_core.run_directory import RunDir
from aimspax_core.settings.cluster import BatchJobs
from aimspax_core.settings.settings import Settings
from aimspax_core.versions import versions
from flows.pools.dask_settings import (
    DASK,
    FAR,
    scheduler_options,
    scratch_folder,
    secret_prefix,
)
from flows.pools.environment import ONE_THREAD, QUIET
from flows.pools.jobs.cleaner import cleaned_up
from flows.pools.jobs.fleet import Fleet
from flows.pools.jobs.ledger import Policy
from flows.pools.jobs.scheduler import Scheduler, scheduler
from flows.pools.jobs.script import BatchCluster, output_of_jobs
from flows.pools.line import Line
from flows.pools.pool import Pool
from flows.pools.preload import AWAY, GPUS, Orders
from flows.runs.api_watch import api_watch
from flows.runs.best_effort import best_effort
from flows.runs.previous_attempt import this_attempt
from flows.server.current import OURS


@contextlib.contextmanager
def batch_pool(
    name: str, jobs: BatchJobs, settings: Settings, warm_up: Callable[[], None] | None = None
) -> Iterator[Pool]:
    """Start a pool of batch jobs, which come and go; none is left after the block."""
    run, cluster, prefix = RunDir.of(settings), settings.cluster, secret_prefix()
    queue, output = scheduler(jobs.scheduler), output_of_jobs(run, jobs.scheduler, name)
    program = settings.reference.starts_programs
    policy = _policy(name, jobs, settings, queue)
    with (
        cleaned_up(run.state / jobs.scheduler, name, run.logs, _attempt()) as folder,
        scratch_folder(),
        dask.config.set({**DASK, **FAR}),
        scheduler_options(queue, jobs, cluster, folder, output, prefix) as runner,
        _marked(folder),
    ):
        orders(queue, jobs, gpus=name == "ml", here=not program).write(folder)
        dask_cluster = runner.client.cluster
        assert isinstance(dask_cluster, BatchCluster)
        script, line = dask_cluster.script, Line()
        with Fleet(policy, queue, dask_cluster, script, line, folder, output) as fleet:

            def follow(new: Settings) -> int:
                now = new.cluster.reference_jobs if name == "reference" else new.cluster.ml_jobs
                assert now is not None
                fleet.follow(_policy(name, now, new, queue))
                return now.most

            pool = Pool(name, runner, jobs.most, fleet, line, prefix, follow, warm_up)
            try:
                yield pool
            finally:
                fleet.stop()  # to close takes a while, in which no job is wanted any more
                pool.close()


def _policy(name: str, jobs: BatchJobs, settings: Settings, queue: Scheduler) -> Policy:
    program = settings.reference.starts_programs
    return Policy(
        name,
        queue.title,
        slots=jobs.slots,
        least=jobs.blocks.min_blocks,
        most=jobs.blocks.max_blocks,
        first=jobs.blocks.init_blocks,
        walltime_s=jobs.walltime_s,
        idle_s=settings.cluster.idle_time,
        notice_s=settings.cluster.queue_notice,
        needs_scheduler=queue.starts_programs and program and name == "reference",
    )


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[None]:
    """Tell the workers that begin in jobs whether the API is away, while the block runs."""
    leave = api_watch().on_change(partial(_mark, folder))
    try:
        yield
    finally:
        leave()


def _mark(folder: Path, answers: bool) -> None:
    """Tell the workers that begin in jobs whether the Prefect API is away."""
    with best_effort("telling the jobs that the Prefect API is away"):
        if answers:
            (folder / AWAY).unlink(missing_ok=True)
        elif folder.exists():
            (folder / AWAY).touch()


def _attempt() -> tuple[str, ...]:
    now = this_attempt()
    return () if now is None else (now.flow_run, str(now.number))


def orders(queue: Scheduler, jobs: BatchJobs, gpus: bool, here: bool = False) -> Orders:
    """Return what the workers of a pool are to do with their environment.

    Args:
        queue: What starts the jobs.
        jobs: What the settings say of the jobs.
        gpus: Whether each worker of a job has a GPU of its own.
        here: Whether the worker itself computes, and no program that it starts.
    """
    names = [name for name in os.environ if name.startswith("PREFECT_")]
    variables = {name: os.environ[name] for name in (*names, "DO_NOT_TRACK") if name in os.environ}
    variables |= QUIET
    if gpus:
        variables |= {GPUS: "job"}
    # Libraries would take all cores of the node, whosever they are.
    cores = jobs.per_slot.cores if jobs.per_slot is not None else None
    if gpus and not jobs.header.gpus_per_node:
        cores = jobs.header.cores_per_node  # training on the CPU has the job
    defaults = dict.fromkeys(ONE_THREAD, str(cores or 1)) if here or gpus else {}
    programs = queue.environment(jobs, shared=jobs.per_slot is not None and not gpus)
    variables |= programs.variables
    api = os.environ.get("PREFECT_API_URL", "")
    near = api != "" and api == os.environ.get(OURS)
    return Orders(variables, programs.unset, defaults, versions(), api, near)
