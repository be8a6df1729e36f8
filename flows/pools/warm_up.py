"""Workers that have nothing to do yet prepare for what their tasks will need."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from uuid import uuid4

from distributed import Client
from distributed import Future as DaskFuture

IDLE_S = 0.3
"""A worker prepares after so long without a task (s): one that waits anywhere is more urgent."""

log = logging.getLogger(f"aimspax.{__name__}")


class WarmUp:
    """Has each worker of a pool call a function once, when it is idle for the first time.

    What it is asked for meanwhile waits there until the function returns, which it would have to
    call otherwise.

    Args:
        client: Dask's.
        function: What is called.
    """

    def __init__(self, client: Client, function: Callable[[], None]) -> None:
        self._client, self._function = client, function
        self._idle_since: dict[str, float] = {}
        self._begun: dict[str, DaskFuture] = {}

    def look(self, free: Collection[str]) -> bool:
        """Have workers prepare that have been free for a while.

        Args:
            free: The addresses of the workers that have no task.

        Returns:
            Whether there are some that have been free for less.
        """
        now = time.monotonic()
        cold = [address for address in free if address not in self._begun]
        self._idle_since = {address: self._idle_since.get(address, now) for address in cold}
        for address in cold:
            if now - self._idle_since[address] >= IDLE_S:
                self._begin(address)
                del self._idle_since[address]
        return bool(self._idle_since)

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
        future.add_done_callback(_tell)
        self._begun[address] = future


def _tell(future: DaskFuture) -> None:
    if future.status == "error":  # its tasks will fail likewise, and say so
        log.debug("a worker did not warm up: %s", future.exception())
