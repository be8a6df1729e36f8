"""What Dask and Prefect leave to us about tasks: that they are over."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Crashed
from prefect_dask.task_runners import PrefectDaskFuture

from flows.runs.best_effort import courtesy

_LAST_WORD_S = 10.0
"""So long a worker that goes may still tell Prefect how its task ended."""


def give_up(client: SyncPrefectClient, futures: Collection[PrefectDaskFuture[Any]]) -> None:
    """Cancel tasks, and show that they do not run any more."""
    for future in futures:
        future.wrapped_future.cancel()
    mark_crashed(client, futures, "the run was stopped")


def mark_crashed(
    client: SyncPrefectClient, futures: Iterable[PrefectDaskFuture[Any]], why: str, tries: int = 6
) -> None:
    """Show in the UI that tasks do not run any more; nobody else would.

    A task that has just started reaches the server's database a moment later; one that never
    started never does.
    """
    left = [future.task_run_id for future in futures]
    with courtesy("setting the state of tasks"):
        for once in range(tries):
            if once:
                time.sleep(0.5)
            left = [id_ for id_ in left if not _set_crashed(client, id_, why)]
            if not left:
                return


class Crashes:
    """Tasks whose worker is gone: shown as crashed at once, and again a little later.

    Its worker may still have told Prefect, in its last moment, that the task failed.
    """

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client
        self._again: list[tuple[float, PrefectDaskFuture[Any], str]] = []

    def add(self, future: PrefectDaskFuture[Any] | None, why: str) -> None:
        """Show what became of a task, if it had begun."""
        if future is not None:
            mark_crashed(self._client, [future], why, tries=1)
            self._again.append((time.monotonic() + _LAST_WORD_S, future, why))

    def settle(self, everything: bool = False) -> None:
        """Show once more what was shown a while ago, or everything that has been since."""
        now = time.monotonic()
        for entry in [entry for entry in self._again if everything or entry[0] <= now]:
            self._again.remove(entry)
            mark_crashed(self._client, [entry[1]], entry[2], tries=6 if everything else 1)


def _set_crashed(client: SyncPrefectClient, task_run_id: UUID, why: str) -> bool:
    """Set a task run's state; False if the server does not know it, or not yet."""
    try:
        client.set_task_run_state(task_run_id, Crashed(message=why), force=True)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return False
    return True
