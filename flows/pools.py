"""From settings to the two pools of Dask workers: `ml` (training, MD) and `reference` (labels)."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dask
from distributed import LocalCluster
from distributed.security import Security
from prefect_dask.task_runners import DaskTaskRunner

from aimspax_core.gpus import visible_gpus
from aimspax_core.rundir import RunDir
from aimspax_core.settings.cluster import Cluster, Slot, SlurmJobs
from aimspax_core.settings.engines import AimsReference, AseReference
from aimspax_core.settings.load import Settings
from aimspax_core.versions import versions
from flows.guard import guarded
from flows.network import reachable_address
from flows.pool import Pool
from flows.server import OURS
from flows.slurm import Fleet, Patience
from flows.slurm_jobs import TCP, BlockCluster, keys
from flows.stale import this_attempt
from flows.worker import GPUS, NO_PAGES, Orders

_LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES}
"""Workers are processes of one thread: side by side they use a machine better than threads do."""

QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}
"""What workers would print belongs on Prefect's page of the run, where it is."""

_DASK = {
    # A task whose worker dies comes back to the rules at once; they count, and ask again.
    "distributed.scheduler.allowed-failures": 0,
    # What becomes of a job is for `flows.slurm` to see.
    "distributed.deploy.lost-worker-timeout": "365 days",
}


_FAR = {
    # Whether a job is there Slurm knows; a network that is silent for a while costs nothing.
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.tcp": TCP,
}


@dataclass(frozen=True)
class Pools:
    """Both pools of a run."""

    ml: Pool
    reference: Pool

    def __iter__(self) -> Iterator[Pool]:
        """Iterate over both."""
        return iter((self.ml, self.reference))


@contextlib.contextmanager
def pools(settings: Settings) -> Iterator[Pools]:
    """Start both pools; their workers end with the block."""
    with contextlib.ExitStack() as stack:
        reference = stack.enter_context(reference_pool(settings))
        ml = stack.enter_context(_ml_pool(settings))
        try:
            yield Pools(ml, reference)
        finally:
            for pool in (reference, ml):
                pool.dismiss()  # all at once: closing them takes a while


@contextlib.contextmanager
def reference_pool(settings: Settings) -> Iterator[Pool]:
    """Start the pool of labels alone; its workers end with the block."""
    jobs = settings.cluster.reference_jobs
    if jobs is not None:
        with _slurm("reference", jobs, settings) as pool:
            yield pool
    else:
        with _local("reference", settings.cluster.max_workers) as pool:
            yield pool


@contextlib.contextmanager
def _ml_pool(settings: Settings) -> Iterator[Pool]:
    jobs = settings.cluster.ml_jobs
    if jobs is not None:
        with _slurm("ml", jobs, settings) as pool:
            yield pool
    else:
        gpus = visible_gpus() if settings.model.MISC.device == "cuda" else ()
        with _local("ml", settings.ml_workers, gpus) as pool:
            yield pool


@contextlib.contextmanager
def _local(name: str, workers: int, gpus: Sequence[str] = ()) -> Iterator[Pool]:
    """Start a pool of single-threaded processes on this machine, reachable from it alone.

    With GPUs each process sees one of them, dealt in turn. Others may be logged in here, so that
    its connections, too, are open only to those who have its key, which is in memory.
    """
    prefix = _hidden()
    with _scratch() as folder, _runner_here(workers, gpus, prefix, folder) as runner:
        runner.client.wait_for_workers(1, timeout=120)
        pool = Pool(name, runner, workers, prefix=prefix)
        try:
            yield pool
        finally:
            pool.close()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Keep Dask's own files in a folder that is nobody else's.

    Dask has a folder for all users of a machine, which belongs to the first of them, and looks for
    Python modules in what is below it.
    """
    with (
        tempfile.TemporaryDirectory(prefix="aimspax-", ignore_cleanup_errors=True) as folder,
        dask.config.set({"temporary-directory": folder}),
    ):
        yield Path(folder)


@contextlib.contextmanager
def _runner_here(
    workers: int, gpus: Sequence[str], prefix: str, folder: Path
) -> Iterator[DaskTaskRunner]:
    """Start the runner of a pool of processes on this machine."""
    runner = DaskTaskRunner(
        cluster_class=LocalCluster,
        cluster_kwargs={
            "n_workers": workers,
            "threads_per_worker": 1,
            "processes": True,
            "host": "127.0.0.1",
            "security": Security.temporary(),
            "dashboard_address": "127.0.0.1:0",
            "scheduler_kwargs": {"http_prefix": prefix},
            "silence_logs": logging.ERROR,
            "memory_limit": 0,
            "local_directory": str(folder),
            "preload": ["flows.worker"],
            "env": {**ONE_THREAD, **QUIET, **NO_PAGES, GPUS: ",".join(gpus)},
        },
    )
    with dask.config.set({**_DASK, "distributed.scheduler.worker-ttl": "5 minutes"}), runner:
        yield runner


def _hidden() -> str:
    """Return where a dashboard is: others on this machine see it only if they know its name."""
    return f"/{secrets.token_urlsafe(16)}"


@contextlib.contextmanager
def _slurm(name: str, jobs: SlurmJobs, settings: Settings) -> Iterator[Pool]:
    """Start a pool of Slurm jobs, which come and go; none is left after the block."""
    run, cluster = RunDir.of(settings), settings.cluster
    patience = Patience(cluster.idle_time, cluster.queue_notice)
    prefix = _hidden()
    with (
        guarded(run.state / "slurm", name, run.logs, _attempt()) as folder,
        _scratch(),
        dask.config.set({**_DASK, **_FAR}),
        _scheduler(jobs, cluster, folder, job_log(run, name), prefix) as runner,
    ):
        program = isinstance(settings.reference, AimsReference | AseReference)
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


def _scheduler(
    jobs: SlurmJobs, cluster: Cluster, folder: Path, log: str, prefix: str
) -> DaskTaskRunner:
    """Return the runner of a pool of Slurm jobs; only who has the folder's key can talk to it."""
    return DaskTaskRunner(
        cluster_class=BlockCluster,
        cluster_kwargs={
            "security": keys(folder),
            "interface": cluster.interface,
            "scheduler_options": {
                "host": reachable_address(cluster.host, cluster.interface),
                "port": 0,
                "dashboard_address": "127.0.0.1:0",
                "http_prefix": prefix,
            },
            "block": jobs,
            "folder": folder,
            "log": log,
        },
    )


def job_log(run: RunDir, pool: str) -> str:
    """Return where the jobs of a pool write their output, for `#SBATCH --output`."""
    return str(run.logs / f"slurm-{pool}-").replace("%", "%%") + "%j.out"


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
