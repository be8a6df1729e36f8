"""From settings to the two pools of Dask workers: `ml` (training, MD) and `reference` (labels)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dask
from distributed import LocalCluster
from prefect_dask.task_runners import DaskTaskRunner

from aimspax_core.gpus import visible_gpus
from aimspax_core.settings.load import Settings
from flows.worker import GPUS

_LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES}
"""Workers are processes of one thread: side by side they use a machine better than threads do."""

QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}
"""What workers would print belongs on Prefect's page of the run, where it is."""


@dataclass(frozen=True)
class Pool:
    """A started task runner, its size, and where it can be watched."""

    name: str
    runner: DaskTaskRunner
    workers: int

    @property
    def dashboard(self) -> str:
        """Address of the pool's Dask dashboard."""
        return str(self.runner.client.dashboard_link or "")


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
        # A task whose worker dies comes back to the rules at once; they count, and ask again.
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
        gpus = visible_gpus() if settings.model.MISC.device == "cuda" else ()
        ml = stack.enter_context(_local("ml", settings.ml_workers, gpus))
        reference = stack.enter_context(_local("reference", settings.cluster.max_workers))
        yield Pools(ml, reference)


@contextlib.contextmanager
def reference_pool(settings: Settings) -> Iterator[Pool]:
    """Start the pool of labels alone; its workers end with the block."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        _local("reference", settings.cluster.max_workers) as pool,
    ):
        yield pool


@contextlib.contextmanager
def _local(name: str, workers: int, gpus: Sequence[str] = ()) -> Iterator[Pool]:
    """Start a pool of single-threaded processes on this machine, reachable from it alone.

    With GPUs each process sees one of them, dealt in turn.
    """
    runner = DaskTaskRunner(
        cluster_class=LocalCluster,
        cluster_kwargs={
            "n_workers": workers,
            "threads_per_worker": 1,
            "processes": True,
            "host": "127.0.0.1",
            "dashboard_address": "127.0.0.1:0",
            "silence_logs": logging.ERROR,
            "memory_limit": 0,
            "preload": ["flows.worker"],
            "env": {**ONE_THREAD, **QUIET, GPUS: ",".join(gpus)},
        },
    )
    with runner:
        runner.client.wait_for_workers(1, timeout=120)
        yield Pool(name, runner, workers)
