"""A pool of workers inside batch jobs."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator

import dask

from aimspax_core.run_directory import RunDir
from aimspax_core.settings.cluster import Slot, SlurmJobs
from aimspax_core.settings.settings import Settings
from aimspax_core.versions import versions
from flows.pools.dask_settings import (
    DASK,
    FAR,
    ONE_THREAD,
    QUIET,
    scheduler_options,
    scratch_folder,
    secret_prefix,
)
from flows.pools.jobs.cleaner import guarded
from flows.pools.jobs.fleet import Fleet, Patience
from flows.pools.jobs.script import BlockCluster, job_log
from flows.pools.pool import Pool
from flows.pools.preload import GPUS, Orders
from flows.runs.previous_attempt import this_attempt
from flows.server.current import OURS


@contextlib.contextmanager
def batch_pool(name: str, jobs: SlurmJobs, settings: Settings) -> Iterator[Pool]:
    """Start a pool of Slurm jobs, which come and go; none is left after the block."""
    run, cluster = RunDir.of(settings), settings.cluster
    patience = Patience(cluster.idle_time, cluster.queue_notice)
    prefix = secret_prefix()
    with (
        guarded(run.state / "slurm", name, run.logs, _attempt()) as folder,
        scratch_folder(),
        dask.config.set({**DASK, **FAR}),
        scheduler_options(jobs, cluster, folder, job_log(run, name), prefix) as runner,
    ):
        program = settings.reference.starts_programs
        orders(jobs, gpus=name == "ml", here=not program).write(folder)
        dask_cluster = runner.client.cluster
        assert isinstance(dask_cluster, BlockCluster)
        steps = program and name == "reference"
        fleet = Fleet(name, dask_cluster, jobs, folder, run.logs, patience, steps)
        pool = Pool(name, runner, jobs.most, fleet, prefix)
        fleet.start(pool)
        try:
            yield pool
        finally:
            fleet.stop()
            pool.close()


def _attempt() -> tuple[str, ...]:
    now = this_attempt()
    return () if now is None else (now.flow_run, str(now.number))


def orders(jobs: SlurmJobs, gpus: bool, here: bool = False) -> Orders:
    """Return what the workers of a pool are told.

    Args:
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
    unset = [_EXPORT]
    if jobs.per_slot is not None and not gpus:
        variables |= steps(jobs, jobs.per_slot)
        unset += _OF_THE_JOB
    api = os.environ.get("PREFECT_API_URL", "")
    near = api != "" and api == os.environ.get(OURS)
    return Orders(variables, tuple(unset), defaults, versions(), api, near)


_EXPORT = "SLURM_EXPORT_ENV"
"""Set by `--export=NONE`; a `srun` would then have nothing of the job's environment."""


_OF_THE_JOB = (
    *("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NTASKS_PER_CORE", "SLURM_NTASKS_PER_SOCKET"),
    *("SLURM_NPROCS", "SLURM_TASKS_PER_NODE", "SLURM_CPUS_PER_TASK", "SRUN_CPUS_PER_TASK"),
    *("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU", "SLURM_TRES_PER_TASK"),
    "SLURM_THREADS_PER_CORE",
)
"""What a plain `srun` would take from the job, and so take all of it."""


def steps(jobs: SlurmJobs, slot: Slot) -> dict[str, str]:
    """Return what gives each plain `srun` of a job its own share, so that several run at once.

    Source: srun's manual, Input Environment Variables; tried with Slurm 22.05.

    Args:
        jobs: What the settings say of the jobs.
        slot: What one calculation may have.
    """
    threads = int(jobs.header.get("cpus-per-task") or 1)
    on_a_node = jobs.header.cores_per_node
    nodes = math.ceil(slot.cores / on_a_node) if slot.cores and on_a_node else 1
    variables = {
        "SLURM_EXACT": "1",  # not all cores of the nodes
        "SLURM_CPUS_PER_TASK": str(threads),
        "SRUN_CPUS_PER_TASK": str(threads),
        "SLURM_MEM_PER_NODE": str(int((slot.memory_mb or 0) / nodes)),  # 0: it is shared
    }
    if slot.cores is not None:
        variables["SLURM_NTASKS"] = str(max(1, slot.cores // threads))
    if nodes == 1:
        variables |= {"SLURM_NNODES": "1", "SLURM_JOB_NUM_NODES": "1"}
    return variables
