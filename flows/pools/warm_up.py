"""Workers that have nothing to do yet prepare for what their tasks will need."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from uuid import uuid4

from dask.typing import Key
from distributed import Client, KilledWorker
from distributed import Future as DaskFuture
from distributed.core import Status
from distributed.scheduler import WorkerState

IDLE_S = 0.3
"""A worker prepares after so long without a task (s): one that waits anywhere is more urgent."""

_LOSSES = 3
"""So many workers in a row may be lost while they prepare; then no other is asked to."""

_COMING = (Status.undefined, Status.created, Status.init, Status.starting)

log = logging.getLogger(f"aimspax.{__name__}")


class WarmUp:
    """Has each worker of a pool call a function once, when it is idle for the first time.

    What it is asked for meanwhile waits there until the function returns, which it would have to
    call otherwise.

    Args:
        client: Dask's.
        function: What is called.

    Attributes:
        cold: Whether there are workers that have been free for too short a while, or have just
            come: `look` is to be called again soon.
    """

    def __init__(self, client: Client, function: Callable[[], None]) -> None:
        self._client, self._function = client, function
        self.cold = True
        self._idle_since: dict[str, float] = {}
        self._begun: dict[str, DaskFuture] = {}
        self._lost: set[Key] = set()  # what was asked of workers that were gone then, in a row
        self._stopped = False

    def look(self, free: Collection[str], workers: Mapping[str, WorkerState]) -> None:
        """Have workers prepare that have been free for a while.

        Args:
            free: The addresses of the workers that have no task.
            workers: All that are there, by their addresses; others are forgotten.
        """
        for address in self._begun.keys() - workers.keys():
            future = self._begun.pop(address)
            if not future.done():
                self._lost.add(future.key)
                future.release()  # it could run nowhere else
        now = time.monotonic()
        cold = [address for address in free if address not in self._begun]
        if cold and self._gives_up():
            self.cold = False
            return
        self._idle_since = {address: self._idle_since.get(address, now) for address in cold}
        for address in cold:
            if now - self._idle_since[address] >= IDLE_S:
                self._begin(address)
                del self._idle_since[address]
        # Dask tells when a worker has come, which is a moment before it takes work.
        coming = any(worker.status in _COMING for worker in workers.values())
        self.cold = bool(self._idle_since) or coming

    def last(self, addresses: Iterable[str]) -> list[str]:
        """Return workers in their order, but those that prepare at the end."""
        return sorted(addresses, key=self._busy)

    def _busy(self, address: str) -> bool:
        return address in self._begun and not self._begun[address].done()

    def _begin(self, address: str) -> None:
        future = self._client.submit(
            self._function,
            key=f"warm-up-{uuid4()}",
            pure=False,
            workers=[address],
            allow_other_workers=False,
        )
        self._begun[address] = future
        future.add_done_callback(self._end)

    def _end(self, future: DaskFuture) -> None:
        """Take in how it went, in a thread of Dask's, and let Dask forget it."""
        if future.status == "finished":
            self._lost.clear()
        elif future.status == "error":  # tasks will fail likewise, and say so
            error = future.exception()
            if isinstance(error, KilledWorker):
                self._lost.add(future.key)
            log.debug("a worker did not warm up: %s", error)
        # A result that is held would have to be moved, or computed again, when its worker leaves.
        future.release()

    def _gives_up(self) -> bool:
        if len(self._lost) >= _LOSSES and not self._stopped:
            self._stopped = True
            log.warning(
                "%d workers in a row were lost while they prepared for their tasks (imports, the "
                "reference engine): they do so no longer, before a task needs it",
                len(self._lost),
            )
        return self._stopped
