"""A pool of workers on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import dask
from distributed import LocalCluster, Nanny
from distributed.core import Status
from distributed.security import Security
from distributed.utils import get_mp_context
from prefect_dask.task_runners import DaskTaskRunner

from aimspax_core.errors import CampaignError
from aimspax_core.settings.settings import Settings
from flows.pools import warm_parent
from flows.pools.dask_hooks import set_by_environment
from flows.pools.dask_settings import DASK, scratch_folder, secret_prefix
from flows.pools.environment import ONE_THREAD, QUIET
from flows.pools.pool import Pool
from flows.pools.preload import GPUS, NO_PAGES
from flows.runs.exits import IS_COMMAND

_STARTS = 5
"""So often the process of a worker is started that dies before it is there."""

_PAUSE_S = (0.2, 30.0)
"""From one start that failed to the next: at first, and at most (s)."""

_TOLD_EVERY = 20
"""After so many starts it is told again that a worker does not come back: about ten minutes."""

log = logging.getLogger(f"aimspax.{__name__}")


class StubbornNanny(Nanny):
    """Starts the process of its worker again if that dies while it starts, or cannot be made.

    Dask does so only with one that dies, and was there already; else the whole pool would not come
    up. A nanny whose process cannot be made, as when the warm parent dies that is to fork it, would
    leave for good, and its pool would wait for ever.

    Args:
        pool: The name of its pool, for messages; all else is as the nanny's.
    """

    def __init__(self, *args: Any, pool: str = "", **others: Any) -> None:
        self._pool = pool
        self._insists = False
        self._fault: Exception | None = None
        super().__init__(*args, **others)

    async def instantiate(self) -> Status:
        """See `Nanny.instantiate`; a worker that was there is started until it is there again."""
        if self._insists:  # its process has died while it started, which is seen below as well
            return Status.starting
        was_there = self.status not in (Status.init, Status.starting)
        self._insists = True
        try:
            return await self._insist(None if was_there else _STARTS)
        finally:
            self._insists = False

    async def _insist(self, starts: int | None) -> Status:
        pause_s = _PAUSE_S[0]
        for number in itertools.count(1):
            status = await self._start_once()
            if status is Status.running or self.status in _ENDING:
                break
            if number == starts:
                if self._fault is not None:
                    raise self._fault
                break
            if number == _STARTS or number % _TOLD_EVERY == 0:
                log.warning(
                    "a worker of the %s pool did not come back in %d starts (%s); trying on",
                    *(self._pool, number, cause_of(self._fault)),
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S[1])
        return status

    async def _start_once(self) -> Status:
        self._fault = None
        try:
            if dask.config.get(warm_parent.METHOD) == "forkserver":
                warm_parent.keep()  # Dask would begin it anew in another environment
            return await super().instantiate()
        # Of whatever kind: it was not made, and there may be another try.
        except Exception as error:
            log.debug("the process of a worker was not made", exc_info=True)
            self._fault = error
            self._end_orphan()
            self.process = None
            return Status.failed

    def _end_orphan(self) -> None:
        """End a process that was forked by a parent that died before it could say so.

        It would become a worker under its name, and the scheduler would refuse the one that is
        started in its place. It ends when this pipe is closed. Dask leaves that to the garbage
        collector, but its log keeps the error, and the error's traceback keeps the pipe.
        """
        process = None if self.process is None else self.process.process
        if process is not None:
            process._keep_child_alive.close()

    async def close(  # type: ignore[override]  # as the nanny itself
        self, timeout: float = 5, reason: str = "nanny-close"
    ) -> Literal["OK"]:
        """See `Nanny.close`; that one start has failed is no reason."""
        if self._insists and reason == "nanny-instantiate-failed":
            return "OK"
        return await super().close(timeout=timeout, reason=reason)


_ENDING = (Status.closing, Status.closed, Status.closing_gracefully, Status.failed)


def cause_of(error: BaseException | None) -> str:
    """Return why the process of a worker was not made: the first cause of what was raised."""
    if error is None:
        return "its process died"
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


def _doubt() -> str:
    """Ask of a script that has started the campaign whether it may be imported; else nothing."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None or sys.modules["__main__"].__spec__ is not None or IS_COMMAND.is_set():
        return ""
    return (
        f'they import {script}, does it start the campaign below `if __name__ == "__main__":`, or '
    )


@contextlib.contextmanager
def local_pool(
    name: str,
    workers: int,
    gpus: Sequence[str] = (),
    wanted: Callable[[Settings], int] | None = None,
    modules: Sequence[str] = (),
    warm_up: Callable[[], None] | None = None,
    gpu: bool = False,
) -> Iterator[Pool]:
    """Start a pool of single-threaded processes on this machine, reachable from it alone.

    With GPUs each process sees one of them, dealt in turn. Others may be logged in here, so that
    its connections, too, are open only to those who have its key, which is in memory.

    Args:
        name: `ml` or `reference`.
        workers: How many processes there are.
        gpus: The GPUs to deal.
        wanted: Returns how many there should be under new settings; not given: that is fixed.
        modules: What all workers on this machine import besides; see `warm_parent`.
        warm_up: What a worker does when it is idle for the first time.
        gpu: Whether the run uses a GPU, in this pool or another.
    """
    prefix = secret_prefix()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        try:
            known = set_by_environment()  # which workers are given now
            runner = stack.enter_context(
                runner_here(name, workers, gpus, prefix, folder, modules, gpu)
            )
            runner.client.wait_for_workers(1, timeout=120)  # its first use makes the cluster
        except (RuntimeError, TimeoutError) as error:  # Dask passes the latter on as it is
            raise CampaignError(
                f"the workers of the {name} pool do not start on this machine "
                f"({cause_of(error)}). Each was started {_STARTS} times: {_doubt()}is there too "
                "little memory, or does something kill them?"
            ) from error

        def follow(settings: Settings) -> int:
            assert wanted is not None
            now, cluster = wanted(settings), runner.client.cluster
            assert isinstance(cluster, LocalCluster)
            if now > len(cluster.worker_spec):  # those that are too many get no tasks
                cluster.scale(now)
            return now

        pool = Pool(
            name,
            runner,
            workers,
            prefix=prefix,
            follow=None if wanted is None else follow,
            warm_up=warm_up,
            settings_known=known,
        )
        try:
            yield pool
        finally:
            pool.close()


@contextlib.contextmanager
def runner_here(
    name: str,
    workers: int,
    gpus: Sequence[str],
    prefix: str,
    folder: Path,
    modules: Sequence[str],
    gpu: bool = False,
) -> Iterator[DaskTaskRunner]:
    """Start the runner of a pool of processes on this machine."""
    with dask.config.set(warm_parent.START_METHOD):
        get_mp_context()  # where Dask says what a parent imports, once; we know better
    start = warm_parent.begin(modules, gpu)
    own = ONE_THREAD | QUIET | NO_PAGES | {GPUS: ",".join(gpus)}
    runner = DaskTaskRunner(
        cluster_class=LocalCluster,
        cluster_kwargs={
            "n_workers": workers,
            "worker_class": StubbornNanny,
            "pool": name,
            "threads_per_worker": 1,
            "processes": True,
            "host": "127.0.0.1",
            "security": Security.temporary(),
            "dashboard_address": "127.0.0.1:0",
            "scheduler_kwargs": {"http_prefix": prefix},
            "silence_logs": logging.ERROR,
            "memory_limit": 0,
            "local_directory": str(folder),
            "preload": ["flows.pools.preload"],
            "env": warm_parent.environment(own),
        },
    )
    ours = DASK | start | {"distributed.scheduler.worker-ttl": "5 minutes"}
    with dask.config.set(ours), runner:
        yield runner
